"""Lovász-Softmax: the convex surrogate of the Jaccard loss (Berman et al. 2018)."""

import torch
from torch import Tensor, nn

from seglab.labels import valid_pixels
from seglab.losses.precision import full_precision
from seglab.losses.reduction import weighted_mean


def jaccard_increments(error: Tensor, truth: Tensor) -> Tensor:
    """What each pixel adds to the Jaccard loss when pixels turn wrong from the largest error down, `[...,P]`.

    `error [...,P]` and boolean `truth [...,P]`. Each increment is computed from whole numbers, not as the difference
    of two Jaccard losses: with 400,000 pixels, float32 would keep one digit of that difference.
    """
    order = error.argsort(dim=-1, descending=True, stable=True)
    hit = truth.gather(-1, order)
    hits = hit.cumsum(-1, dtype=torch.int32)
    size = hits[..., -1:]
    left = (size - hits).to(error.dtype)  # foreground pixels that are still right
    rank = torch.arange(1, error.shape[-1] + 1, device=error.device, dtype=torch.int32)
    union = (size + rank - hits).to(error.dtype)
    increment = torch.where(hit, 1 / union, left / union / (union - 1).clamp(min=1))
    return torch.empty_like(increment).scatter_(-1, order, increment)


def lovasz_softmax(logits: Tensor, target: Tensor, per_image: bool = False) -> Tensor:
    """Mean over the classes in the target, of the whole batch or `per_image`, of the Lovász extension of Jaccard."""
    logits, target = full_precision(logits, target)
    error = (target - logits.softmax(1)).abs()
    # Below every error: a VOID pixel is sorted behind all others, where its increment is exactly 0.
    error = error.masked_fill(valid_pixels(target) == 0, -1)
    if per_image:
        error, target = error.flatten(2), target.flatten(2)  # [B,K,H*W]
    else:
        error, target = error.transpose(0, 1).flatten(1), target.transpose(0, 1).flatten(1)  # [K,B*H*W]
    with torch.no_grad():
        increment = jaccard_increments(error, target > 0)
    present = (target.amax(-1) > 0).to(error.dtype)
    return weighted_mean((error * increment).sum(-1), present)


class Lovasz(nn.Module):
    """`lovasz_softmax` as a module."""

    def __init__(self, per_image: bool = False):
        super().__init__()
        self.per_image = per_image

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return lovasz_softmax(logits, target, self.per_image)
