"""The increments of the Jaccard loss by sorting, as its authors define them (Berman et al. 2018)."""

import torch
from torch import Tensor


def increments_by_sorting(error: Tensor, truth: Tensor) -> Tensor:
    """Increase of the Jaccard loss at each pixel when pixels turn wrong from the largest error down, `[...,P]`.

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
