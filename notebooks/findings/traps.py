"""Traps of the original system in metric, loss, label and precision: its faulty computation again, beside today's."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from seglab.data.synthetic import draw_scene
from seglab.labels import one_hot
from seglab.losses import BinaryCrossEntropy, Focal, OriginalFocal
from seglab.scores import confusion, miou


def drawn_mask(size: int) -> np.ndarray:
    """Label `uint8 [H,W]` of a drawn scene."""
    return draw_scene(0, 0, size, size)[1]


def plausible_logits(mask: Tensor, num_classes: int, strength: float, seed: int = 0) -> Tensor:
    """Logits `[B,K,H,W]` of a network half-way: normal noise, and `strength` more for the class of `mask [B,H,W]`."""
    target = one_hot(mask, num_classes).float()
    return torch.randn(target.shape, generator=torch.Generator().manual_seed(seed)) + strength * target


def keras_mean_iou(target: np.ndarray, probabilities: np.ndarray) -> float:
    """Keras's `MeanIoU` of one-hot `target [B,K,H,W]` and probabilities, as the original's log used it.

    It takes each number for a class and casts it to a whole one: a probability below 1 is class 0, a one-hot 1 class 1.
    """
    return float(miou(confusion(target.astype(np.int64), probabilities.astype(np.int64), target.shape[1])))


def mean_iou(target: np.ndarray, probabilities: np.ndarray) -> float:
    """Today's mIoU of the same arrays: of the classes that are most probable."""
    return float(miou(confusion(target.argmax(1), probabilities.argmax(1), target.shape[1])))


def saturated_keras_mean_iou(accuracy: float, num_classes: int = 4) -> float:
    """`keras_mean_iou` of a map of this accuracy as soon as every probability is rounded to 0 or 1."""
    ones = accuracy / (2 - accuracy)
    zeros = (num_classes - 2 + accuracy) / (num_classes - accuracy)
    return (ones + zeros) / 2


class StuckMetric(NamedTuple):
    """Both metrics of one map; `saturated` is the share of pixels with a probability of exactly 1."""

    strength: float
    keras: float
    today: float
    saturated: float


def stuck_metric(
    mask: np.ndarray, strengths: Sequence[float], num_classes: int = 4, seed: int = 0
) -> list[StuckMetric]:
    """Both metrics while a network grows surer of the classes of `mask uint8 [H,W]`: its logits gain `strengths`."""
    labels = torch.from_numpy(mask)[None]
    target = one_hot(labels, num_classes).numpy()
    rows = []
    for strength in strengths:
        p = plausible_logits(labels, num_classes, strength, seed).softmax(1).numpy()
        saturated = float((p.max(1) == 1).mean())
        rows.append(StuckMetric(strength, keras_mean_iou(target, p), mean_iou(target, p), saturated))
    return rows


class GradientShares(NamedTuple):
    """Share of the pixels that get a gradient, and share of its absolute sum that falls on pixels with a bad label."""

    reached: float
    on_bad: float


def gradient_shares(loss: nn.Module, logits: Tensor, target: Tensor, bad: Tensor) -> GradientShares:
    """Where the gradient of `loss` by logits `[B,K,H,W]` falls; `bad [B,H,W]` is true where the label is wrong."""
    logits = logits.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits, target), logits)
    size = gradient.double().abs().sum(1)
    return GradientShares((size > 0).double().mean().item(), (size[bad].sum() / size.sum()).item())


def spoilt(mask: Tensor, share: float, num_classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """`mask uint8 [B,H,W]` in which this share of the pixels, drawn evenly, has another class, and where that is."""
    generator = torch.Generator().manual_seed(seed)
    bad = torch.zeros(mask.numel(), dtype=torch.bool)
    bad[torch.randperm(mask.numel(), generator=generator)[: round(share * mask.numel())]] = True
    other = torch.randint(1, num_classes, (mask.numel(),), generator=generator)
    changed = torch.where(bad, (mask.flatten() + other) % num_classes, mask.flatten())
    return changed.to(torch.uint8).view_as(mask), bad.view_as(mask)


def focal_gradients(
    mask: np.ndarray, bad_share: float = 0.02, strength: float = 2.0, num_classes: int = 4, seed: int = 0
) -> dict[str, GradientShares]:
    """Where the gradient of the original's focal loss and of today's falls, of a scene with bad labels.

    `mask uint8 [H,W]` is right; `strength` says how sure the network is of it.
    """
    clean = torch.from_numpy(mask)[None]
    labels, bad = spoilt(clean, bad_share, num_classes, seed)
    logits = plausible_logits(clean, num_classes, strength, seed)
    losses = {"original": OriginalFocal(), "today": Focal(gamma=2.0, alpha=[0.25] * num_classes)}
    target = one_hot(labels, num_classes)
    return {name: gradient_shares(loss, logits, target, bad) for name, loss in losses.items()}


class Resampled(NamedTuple):
    """Shares of the pixels of a crop: not the class of the plain cut, and of a class that none of its sources has."""

    changed: float
    invented: float


def resampled_labels(mask: np.ndarray, size: int = 1024) -> dict[str, Resampled]:
    """Crop of `size` x `size` from the upper left corner of `mask uint8 [H,W]`, as the original made it and others.

    The original gave a window one pixel too large, size + 1, to a bilinear resize that keeps the corners, and cut off
    the fractions. `mask` must be larger than `size` both ways.
    """
    if min(mask.shape) <= size:
        raise ValueError(f"label of {mask.shape}: expected more than {size} pixels both ways")
    position = np.arange(size) * (size / (size - 1))
    low = np.minimum(position.astype(int), size - 1)
    part = position - low
    corners = np.stack([mask[np.ix_(low + y, low + x)] for y in (0, 1) for x in (0, 1)]).astype(np.float64)
    top = corners[0] + (corners[1] - corners[0]) * part
    bottom = corners[2] + (corners[3] - corners[2]) * part
    nearest = np.rint(position).astype(int)
    cut = mask[:size, :size]
    crops = {
        "bilinear": (top + (bottom - top) * part[:, None]).astype(np.uint8),
        "nearest": mask[np.ix_(nearest, nearest)],
        "cropped": cut,
    }
    return {
        name: Resampled(float((crop != cut).mean()), float((crop != corners).all(0).mean()))
        for name, crop in crops.items()
    }


class LogOfOutputs(NamedTuple):
    """Share of the outputs below 0, the original's loss of them, and today's."""

    negative: float
    original: float
    today: float


def log_of_outputs(mask: np.ndarray, strength: float = 2.0, num_classes: int = 4, seed: int = 0) -> LogOfOutputs:
    """Focal loss of a network without softmax, whose outputs are taken for probabilities; `mask uint8 [H,W]`."""
    labels = torch.from_numpy(mask)[None]
    target = one_hot(labels, num_classes).float()
    outputs = plausible_logits(labels, num_classes, strength, seed)
    negative = float((outputs < 0).double().mean())
    return LogOfOutputs(negative, focal_of_probabilities(outputs, target).item(), Focal()(outputs, target).item())


def least_loss_of_equal_channels(mask: np.ndarray) -> float:
    """Least cross-entropy of a softmax over three classes whose target is a label image with three equal channels.

    The target of a pixel of class k is (k, k, k), so the best guess is 1/3 each: k * 3 log 3. With a one-hot target the
    least is 0.
    """
    return float(mask.mean(dtype=np.float64) * 3 * np.log(3))


class HalfPrecision(NamedTuple):
    """Numbers of a gradient by `total` logits that are not finite, and that are exactly 0."""

    loss: str
    softmax: str
    not_finite: int
    zero: int
    total: int


def focal_of_probabilities(p: Tensor, target: Tensor) -> Tensor:
    """The original's focal loss of probabilities, before the largest of each column was taken; here the mean."""
    return (-0.25 * target * (1 - p) ** 2 * (p + 1e-7).log()).mean()


def binary_cross_entropy_of_probabilities(p: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of probabilities, with the same 1e-7 in the logarithms."""
    return -(target * (p + 1e-7).log() + (1 - target) * (1 - p + 1e-7).log()).mean()


def half_precision_gradients(margin: float = 20.0, pixels: int = 64, seed: int = 0) -> list[HalfPrecision]:
    """Gradients by float16 logits of 4 classes, one of them larger by `margin`, with labels drawn at random.

    The original's models ended in a float16 softmax. Losses are scaled by 2^15, with which Keras's mixed precision
    begins.
    """
    generator = torch.Generator().manual_seed(seed)
    labels, guessed = torch.randint(4, (2, 1, pixels, 1), generator=generator).to(torch.uint8)
    target = one_hot(labels, 4).float()
    logits = margin * one_hot(guessed, 4).half()
    ways: list[tuple[str, str, Callable[[Tensor], Tensor]]] = [
        ("focal", "float16", lambda x: focal_of_probabilities(x.softmax(1).float(), target)),
        ("focal", "today", lambda x: Focal(alpha=[0.25] * 4)(x, target)),
        ("binary_cross_entropy", "float16", lambda x: binary_cross_entropy_of_probabilities(x.softmax(1), target)),
        ("binary_cross_entropy", "today", lambda x: BinaryCrossEntropy()(x, target)),
    ]
    rows = []
    for loss, softmax, value in ways:
        x = logits.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(2**15 * value(x).float(), x)
        bad = int((~gradient.isfinite()).sum())
        rows.append(HalfPrecision(loss, softmax, bad, int((gradient == 0).sum()), gradient.numel()))
    return rows
