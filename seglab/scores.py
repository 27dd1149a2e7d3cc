"""The scores: each a function of one confusion matrix over a whole split, and the one table of them.

Counts are whole numbers `[...,K,K]` (rows true, columns predicted) in NumPy. An absent class (neither true nor
predicted) has no score: it is NaN, and means leave it out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from seglab.labels import VOID

CALIBRATION_BINS = 20
"""Equal bins of 0..1 in which the confidence of a map is counted."""

PROBABILITY_BINS = 126
"""Equal bins of the probability of each class; TensorBoard draws PR curves over their 127 edges."""

STRANDS = 4
"""Running sums of a mean, as in torch's kernel, whose last bits published scores already have."""


def confusion(mask: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts `int64 [K,K]` of two index maps of one shape; pixels that are VOID in either do not count."""
    both = (mask != VOID) & (prediction != VOID)
    pairs = mask[both].astype(np.int64) * num_classes + prediction[both]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def mean_of_present(values: np.ndarray) -> np.ndarray:
    """Mean `[...]` of `values [...,K]` without NaN; NaN where all are."""
    known = np.nan_to_num(values)
    whole = known.shape[-1] - known.shape[-1] % STRANDS
    total = np.zeros(known.shape[:-1])
    for i in range(whole, known.shape[-1]):
        total = total + known[..., i]
    strands = sum((known[..., i : i + STRANDS] for i in range(0, whole, STRANDS)), np.zeros(()))
    for i in range(STRANDS if whole else 0):
        total = total + strands[..., i]
    return _ratio(total, (~np.isnan(values)).sum(-1))


def iou_per_class(counts: np.ndarray) -> np.ndarray:
    """Intersection over union `float64 [...,K]`."""
    hit = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    return _ratio(hit, counts.sum(-2) + counts.sum(-1) - hit)


def miou(counts: np.ndarray) -> np.ndarray:
    """Mean of the IoU of the classes that occur, `float64 [...]`."""
    return mean_of_present(iou_per_class(counts))


def dice_per_class(counts: np.ndarray) -> np.ndarray:
    """Dice coefficient (F1) `float64 [...,K]`."""
    hit = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    return _ratio(2 * hit, counts.sum(-2) + counts.sum(-1))


def dice(counts: np.ndarray) -> np.ndarray:
    """Mean of the Dice of the classes that occur, `float64 [...]`."""
    return mean_of_present(dice_per_class(counts))


def accuracy(counts: np.ndarray) -> np.ndarray:
    """Share of the pixels that are right, `float64 [...]`; NaN without pixels."""
    hit = np.trace(counts, axis1=-2, axis2=-1).astype(np.float64)
    return _ratio(hit, counts.sum((-2, -1)))


def majority_miou(counts: np.ndarray) -> np.ndarray:
    """mIoU of the constant map of the most frequent true class: a map must beat it to show anything."""
    true = counts.sum(-1)
    constant = np.zeros_like(counts)
    np.put_along_axis(constant, np.expand_dims(true.argmax(-1, keepdims=True), -1), true[..., None], -1)
    return miou(constant)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) > 0)


@dataclass(frozen=True)
class Score:
    """`of(counts)` is a number, or one for each class (`per_class`). `reference`: of the labels alone, of no map."""

    name: str
    label: str
    of: Callable[[np.ndarray], np.ndarray]
    per_class: bool = False
    reference: bool = False


SCORES = (
    Score("miou", "mIoU", miou),
    Score("dice", "Dice", dice),
    Score("accuracy", "accuracy", accuracy),
    Score("iou", "IoU", iou_per_class, per_class=True),
    Score("majority_miou", "mIoU of a constant map of the most frequent class", majority_miou, reference=True),
)
"""Every score that seglab computes, keeps and shows, the one that cells are compared by first."""

MAIN = SCORES[0]


def keys(score: Score, class_names: Iterable[str]) -> list[str]:
    """The names under which a score's numbers are kept: `miou`, or `iou/<class>` of each class."""
    return [f"{score.name}/{name}" for name in class_names] if score.per_class else [score.name]


def labels(class_names: Iterable[str]) -> dict[str, str]:
    """Every key of a score of maps and its words for a reader, in the order of SCORES."""
    names = list(class_names)
    shown = [score for score in SCORES if not score.reference]
    return {
        key: f"{score.label}, {name}" if score.per_class else score.label
        for score in shown
        for key, name in zip(keys(score, names), names if score.per_class else [""], strict=True)
    }


def by_key(key: str, class_names: Sequence[str]) -> Callable[[np.ndarray], np.ndarray]:
    """The function of counts `[...,K,K]` that gives the score of this key. Raises ValueError for another word."""
    for score in (score for score in SCORES if not score.reference and key in keys(score, class_names)):
        return partial(_of_class, score, keys(score, class_names).index(key)) if score.per_class else score.of
    raise ValueError(f"score {key}: accepted are {', '.join(labels(class_names))}")


def _of_class(score: Score, at: int, counts: np.ndarray) -> np.ndarray:
    return score.of(counts)[..., at]


def scores(counts: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
    """All scores of counts `[K,K]` as plain numbers by key, in the order of SCORES."""
    values = {score: np.atleast_1d(score.of(np.asarray(counts))).tolist() for score in SCORES}
    return {key: v for score, each in values.items() for key, v in zip(keys(score, class_names), each, strict=True)}


def nested(flat: Mapping[str, Any], class_names: Sequence[str]) -> dict[str, Any]:
    """The scores of maps as results.json holds them: by name, those of classes as `{class: value}` and last."""
    own = sorted((score for score in SCORES if not score.reference), key=lambda score: score.per_class)
    out: dict[str, Any] = {}
    for score in own:
        found = [flat.get(key) for key in keys(score, class_names)]
        if any(value is not None for value in found):
            out[score.name] = dict(zip(class_names, found, strict=True)) if score.per_class else found[0]
    return out


def flattened(nested_scores: Mapping[str, Any]) -> dict[str, float | None]:
    """The scores of results.json by key: `iou/<class>` for `{"iou": {<class>: value}}`."""
    out: dict[str, float | None] = {}
    for name, value in nested_scores.items():
        out |= {f"{name}/{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {name: value}
    return out
