"""Softmax focal loss: cross-entropy that fades where a pixel is already right."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seglab.labels import valid_pixels
from seglab.losses import class_weights as weights_of_classes
from seglab.losses.precision import full_precision, log_probabilities
from seglab.losses.reduction import weighted_mean


def focusing(log_p: Tensor, gamma: float) -> Tensor:
    """(1 - p)^gamma of log p, with a finite gradient at p = 1 for gamma < 1 too (Lin et al. 2017, eq. 4)."""
    return (-log_p.expm1()).clamp(min=torch.finfo(log_p.dtype).eps) ** gamma


def check_gamma(gamma: float) -> float:
    """`gamma` itself; ValueError below 0."""
    if not gamma >= 0:
        raise ValueError(f"gamma {gamma}: expected a number >= 0; 0 is cross-entropy, 2 is usual")
    return gamma


def focal(logits: Tensor, target: Tensor, gamma: float = 2.0, alpha: Sequence[float] | None = None) -> Tensor:
    """Mean over the pixels of alpha_t * (1 - p_t)^gamma * -log p_t, where p_t is the probability of the true class."""
    logits, target = full_precision(logits, target)
    log_p = (target * log_probabilities(logits)).sum(1, keepdim=True)  # [B,1,H,W]
    alpha_t = (target * weights_of_classes.per_class("alpha", alpha, logits)).sum(1, keepdim=True)
    return weighted_mean(-alpha_t * focusing(log_p, gamma) * log_p, valid_pixels(target))


class Focal(nn.Module):
    """`focal` with one optional alpha for each class; unlike class weights, alpha does not enter the divisor.

    Without alpha it equals smp's `softmax_focal_loss_with_logits`. smp's `FocalLoss` is `FocalSigmoid`.
    """

    def __init__(self, gamma: float = 2.0, alpha: list[float] | None = None):
        super().__init__()
        self.gamma = check_gamma(gamma)
        self.alpha = weights_of_classes.checked("alpha", alpha)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return focal(logits, target, self.gamma, self.alpha)
