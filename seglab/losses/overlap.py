"""The overlap losses: one formula, the Tversky index, and its special cases Dice and Jaccard."""

import math

import torch
from torch import Tensor, nn

from seglab.labels import valid_pixels
from seglab.losses.precision import full_precision
from seglab.losses.reduction import grouped_sum, mean_of_groups


def overlap(
    logits: Tensor,
    target: Tensor,
    alpha: float,
    beta: float,
    gamma: float = 1.0,
    squared: bool = False,
    smooth: float = 0.0,
    per_image: bool = False,
    per_class: bool = True,
) -> Tensor:
    """Mean of (1 - index)^gamma, where index = TP / (TP + alpha FP + beta FN) of the softmax probabilities.

    alpha = beta = 0.5 is Dice, alpha = beta = 1 is Jaccard. The counts are sums over the batch for each class, and
    the mean is over the classes in the target: an absent class is left out. `per_image` is the mean over the images,
    each by its own counts and over its own classes. `per_class=False` counts all classes in one. `squared` sums p²
    where p belongs (Milletari et al. 2016). `smooth` is added to numerator and denominator.
    """
    logits, target = full_precision(logits, target)
    p = logits.softmax(1) * valid_pixels(target)
    hit = grouped_sum(p * target, per_image, per_class)
    predicted = grouped_sum(p * p if squared else p, per_image, per_class)
    actual = grouped_sum(target, per_image, per_class)
    present = actual > 0
    denominator = hit + alpha * (predicted - hit) + beta * (actual - hit) + smooth
    index = (hit + smooth) / denominator.where(present, 1)
    # Rounding can put a squared index just above 1, and a power of a negative number is NaN.
    return mean_of_groups(_power((1 - index).where(present, 0).clamp(min=0), gamma), present)


def _power(x: Tensor, gamma: float) -> Tensor:
    """`x ** gamma` of numbers >= 0; for gamma < 1 straight from 0 to the machine's epsilon: the slope stays finite."""
    if gamma >= 1:
        return x**gamma
    return x * x.clamp(min=torch.finfo(x.dtype).eps) ** (gamma - 1)


def _check_smooth(smooth: float) -> float:
    if not smooth >= 0:
        raise ValueError(f"smooth {smooth}: expected a number >= 0")
    return smooth


class _Symmetric(nn.Module):
    """`overlap` where a false positive weighs as much as a false negative: alpha = beta = `weight`."""

    weight: float

    def __init__(self, squared: bool = False, smooth: float = 0.0, per_image: bool = False, per_class: bool = True):
        super().__init__()
        self.squared = squared
        self.smooth = _check_smooth(smooth)
        self.per_image = per_image
        self.per_class = per_class

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        weight = self.weight
        return overlap(logits, target, weight, weight, 1.0, self.squared, self.smooth, self.per_image, self.per_class)


class Dice(_Symmetric):
    """Dice loss; `squared` is the form the original system called "jaccard".

    Equals smp's `DiceLoss("multiclass", smooth=smooth)` where every class is in the batch; smp counts an absent class
    as 0 in the mean.
    """

    weight = 0.5


class Jaccard(_Symmetric):
    """Jaccard (soft IoU) loss; equals smp's `JaccardLoss("multiclass", smooth=smooth)` as Dice does smp's."""

    weight = 1.0


class Tversky(nn.Module):
    """Tversky loss (Salehi et al. 2017): mean over the classes of (1 - index)^gamma.

    `alpha` weighs false positives, `beta` false negatives. `gamma` is the exponent itself, any number above 0. The
    focal Tversky loss (Abraham & Khan 2019) has the exponent 1/gamma with a gamma of 1 to 3: their 4/3 is gamma=0.75
    here, and a class that is nearly right keeps more of its gradient. gamma > 1 does the opposite. With gamma 1 it
    equals smp's `TverskyLoss("multiclass", alpha=alpha, beta=beta, smooth=smooth)` as Dice does smp's; smp takes the
    power of the mean over the classes.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 1.0,
        smooth: float = 0.0,
        per_image: bool = False,
        per_class: bool = True,
    ):
        super().__init__()
        if not alpha >= 0:
            raise ValueError(f"alpha {alpha}: expected a number >= 0")
        if not beta > 0:
            raise ValueError(f"beta {beta}: expected a number > 0, or a class that is missed altogether costs nothing")
        if not 0 < gamma < math.inf:
            raise ValueError(f"gamma {gamma}: expected a number > 0, the exponent; Abraham & Khan's 4/3 is 0.75 here")
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.smooth = _check_smooth(smooth)
        self.per_image = per_image
        self.per_class = per_class

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return overlap(
            logits, target, self.alpha, self.beta, self.gamma, False, self.smooth, self.per_image, self.per_class
        )
