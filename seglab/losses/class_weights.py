"""Weights of the classes: checked when a loss is made, and laid out to multiply `[B,K,H,W]`."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def checked(name: str, weights: Sequence[float] | None) -> list[float] | None:
    """The weights as a list; ValueError unless they are finite, not negative and not all 0."""
    if weights is None:
        return None
    values = [float(w) for w in weights]
    if not all(math.isfinite(w) and w >= 0 for w in values) or not any(values):
        raise ValueError(f"{name} {values}: expected one finite number >= 0 for each class, not all 0, or null")
    return values


def per_class(name: str, weights: Sequence[float] | None, logits: Tensor) -> Tensor:
    """`[K,1,1]` in the type of `logits [B,K,H,W]`, ones for None; ValueError unless there are K weights."""
    num_classes = logits.shape[1]
    if weights is None:
        return logits.new_ones(num_classes, 1, 1)
    if len(weights) != num_classes:
        raise ValueError(f"{name} has {len(weights)} numbers, the logits {num_classes} classes: expected one for each")
    # One by one, as arguments of a kernel: to copy a list, the host would wait until the GPU has finished all else.
    return torch.stack([logits.new_full((1, 1), w) for w in weights])
