"""The rule of precision: a loss is computed in float32 whatever the autocast, in float64 if the logits are float64."""

import torch
from torch import Tensor

LOWEST_LOG = -1e30
"""Floor of a log-probability: finite logits may lie further apart than float32 reaches, and 0 * -inf is NaN."""


def full_precision(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and target `[B,K,H,W]` in the type to compute in; ValueError where their shapes differ."""
    if logits.shape != target.shape or logits.ndim != 4:
        raise ValueError(
            f"logits {list(logits.shape)}, target {list(target.shape)}: both must have the same shape [B,K,H,W]"
        )
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return logits.to(dtype), target.to(dtype)


def log_probabilities(logits: Tensor) -> Tensor:
    """Finite log-softmax over the classes, `[B,K,H,W]`, of any finite logits."""
    return logits.log_softmax(1).clamp(min=LOWEST_LOG)
