"""Lovász-Softmax: the convex surrogate of the Jaccard loss (Berman et al. 2018), by counting instead of sorting."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from seglab.labels import occurrences, valid_pixels
from seglab.losses.lovasz_sorted import increments_by_sorting
from seglab.losses.precision import full_precision
from seglab.losses.reduction import weighted_mean

BINS = 8192
"""Errors closer than 1 / BINS share an increment: on 8 x 224 x 224 pixels the loss differs by less than 1e-6."""

FEW = BINS
"""Up to so many pixels sorting is exact and as fast."""


def increments(error: Tensor, truth: Tensor) -> Tensor:
    """What each pixel adds to the Jaccard loss when pixels turn wrong from the largest error down, `[...,P]`.

    `error [...,P]` in 0..1, or below 0 for VOID, and boolean `truth [...,P]`.
    """
    return (increments_by_sorting if error.shape[-1] <= FEW else increments_by_counting)(error, truth)


def increments_by_counting(error: Tensor, truth: Tensor) -> Tensor:
    """The same for errors rounded to BINS values: pixels of a bin turn wrong together and share its increment.

    Foreground and background pixels of a bin share in proportion to their slopes of the Jaccard loss in its middle.
    """
    groups = error.shape[:-1].numel()
    first = torch.arange(0, 2 * BINS * groups, 2 * BINS, dtype=torch.int32, device=error.device)
    index = (error * (BINS - 1)).round_().to(torch.int32) + truth * BINS + first.view(*error.shape[:-1], 1)
    index = index.masked_fill_(error < 0, 2 * BINS * groups).flatten()
    counts = occurrences(index, 2 * BINS * groups + 1)[:-1]
    table = _increments_of_bins(*counts.view(groups, 2, BINS).flip(-1).double().unbind(1))
    table = torch.cat([table.flip(-1).flatten(), table.new_zeros(1)]).to(error.dtype)
    return table.index_select(0, index).view_as(error)


def _increments_of_bins(background: Tensor, foreground: Tensor) -> Tensor:
    """Increment `[G,2,BINS]` of a background and of a foreground pixel of each bin, by counts `[G,BINS]` of pixels."""
    misses, hits = background.cumsum(-1), foreground.cumsum(-1)
    size = hits[:, -1:]
    loss = 1 - (size - hits) / (size + misses).clamp(min=1)
    step = loss.diff(prepend=loss.new_zeros(len(loss), 1))
    union = (size + misses - background / 2).clamp(min=0.5)
    slopes = torch.stack([(size - hits + foreground / 2) / union**2, 1 / union], 1)
    shares = (slopes * torch.stack([background, foreground], 1)).sum(1)
    return slopes * (step / shares.where(shares > 0, 1))[:, None]


def lovasz_softmax(
    logits: Tensor,
    target: Tensor,
    per_image: bool = False,
    increments: Callable[[Tensor, Tensor], Tensor] = increments,
) -> Tensor:
    """Mean over the classes in the target, of the whole batch or `per_image`, of the Lovász extension of Jaccard."""
    logits, target = full_precision(logits, target)
    error = (target - logits.softmax(1)).abs()
    # Below every error: a VOID pixel comes behind all others, where its increment is exactly 0.
    error = error.masked_fill(valid_pixels(target) == 0, -1)
    if per_image:
        error, target = error.flatten(2), target.flatten(2)  # [B,K,H*W]
    else:
        error, target = error.transpose(0, 1).flatten(1), target.transpose(0, 1).flatten(1)  # [K,B*H*W]
    with torch.no_grad():
        increment = increments(error, target > 0)
    present = (target.amax(-1) > 0).to(error.dtype)
    return weighted_mean((error * increment).sum(-1), present)


class Lovasz(nn.Module):
    """`lovasz_softmax` as a module."""

    def __init__(self, per_image: bool = False):
        super().__init__()
        self.per_image = per_image

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return lovasz_softmax(logits, target, self.per_image)


class LovaszSorted(Lovasz):
    """The same by sorting, exact and an order of magnitude slower: what `Lovasz` is measured against."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return lovasz_softmax(logits, target, self.per_image, increments_by_sorting)
