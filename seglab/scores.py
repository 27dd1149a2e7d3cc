"""Scores as pure functions of one confusion matrix `int64 [K,K]` (rows true, columns predicted) over a whole split.

An absent class (neither true nor predicted) has no score: it is NaN, and means leave it out.
"""

import torch
from torch import Tensor

from seglab.labels import VOID, occurrences


def confusion_matrix(prediction: Tensor, mask: Tensor, num_classes: int) -> Tensor:
    """Counts `int64 [K,K]` of index maps `[B,H,W]`; VOID pixels of `mask` do not count."""
    cells = num_classes**2
    pairs = torch.where(mask == VOID, cells, mask.int() * num_classes + prediction).flatten()
    return occurrences(pairs, cells + 1)[:-1].view(num_classes, num_classes)


def iou_per_class(cm: Tensor) -> Tensor:
    """Intersection over union `float64 [K]`."""
    hit = cm.diagonal().double()
    return hit / (cm.sum(0) + cm.sum(1) - hit)


def miou(cm: Tensor) -> Tensor:
    """Mean of the IoU of the classes that occur."""
    return iou_per_class(cm).nanmean()


def dice_per_class(cm: Tensor) -> Tensor:
    """Dice coefficient (F1) `float64 [K]`."""
    return 2 * cm.diagonal().double() / (cm.sum(0) + cm.sum(1))


def dice(cm: Tensor) -> Tensor:
    """Mean of the Dice of the classes that occur."""
    return dice_per_class(cm).nanmean()


def accuracy(cm: Tensor) -> Tensor:
    """Share of the pixels that are right; NaN without pixels."""
    return cm.diagonal().sum().double() / cm.sum()


def majority_miou(cm: Tensor) -> Tensor:
    """mIoU of predicting the commonest true class everywhere: what a map must beat to show anything."""
    constant = torch.zeros_like(cm)
    constant[:, cm.sum(1).argmax()] = cm.sum(1)
    return miou(constant)


def scores(cm: Tensor, names: list[str]) -> dict[str, float]:
    """All scores as plain numbers: `miou, dice, accuracy` and `iou/<class>`."""
    mean = {"miou": miou(cm), "dice": dice(cm), "accuracy": accuracy(cm)}
    each = {f"iou/{name}": value for name, value in zip(names, iou_per_class(cm), strict=True)}
    return {name: float(value) for name, value in (mean | each).items()}
