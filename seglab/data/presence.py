"""Classes that labels lack, and labels that hold none: what no training could learn or score."""

from collections.abc import Mapping, Sequence

import numpy as np

from seglab.labels import VOID

TRAIN, VAL, TEST = "train", "val", "test"
CONSEQUENCES = {
    None: ("", "a network cannot learn it from these labels"),
    TRAIN: (" among the training images", "it cannot be learnt from this split"),
    VAL: (" among the validation images", "its IoU cannot be measured on this split"),
    TEST: (" among the test images", "its IoU cannot be measured on them"),
}
"""Side of the split that lacks a class (None: both), in words, and what follows."""


def absent_classes(counts: Mapping[str, np.ndarray], classes: Sequence[str]) -> list[str]:
    """Sentences on the classes that all labels lack, and on those that one side lacks; pixels `[K]` by side."""
    overall = sum(counts.values(), np.zeros(len(classes), np.int64))
    out = []
    sides: dict[str | None, np.ndarray] = {None: overall, **{s: counts[s] for s in (TRAIN, VAL, TEST) if s in counts}}
    for side, found in sides.items():
        if not found.sum():
            continue
        lacking = [c for c, n, every in zip(classes, found, overall, strict=True) if not n and (side is None or every)]
        if lacking:
            where, so = CONSEQUENCES[side]
            names = " or of ".join(f"“{name}”" for name in lacking)
            out.append(f"No pixel of {names}{where}: {so}.")
    return out


def unmeasured(split: str, pixels: np.ndarray, classes: Sequence[str]) -> list[str]:
    """The sentence on the classes of which the labels of a scored split hold no pixel; `pixels [K]`."""
    lacking = [f"“{c}”" for c, n in zip(classes, pixels, strict=True) if not n]
    where, so = CONSEQUENCES.get(split, (" among these images", "its IoU cannot be measured on them"))
    return [f"No pixel of {' or of '.join(lacking)}{where}: {so}."] if lacking else []


def empty_labels(counts: Mapping[str, np.ndarray], void: int, classes: Sequence[str], ids: bool) -> list[str]:
    """Problems of a set whose labels hold nothing to learn or to score.

    Pixels `[K]` by side and `void` pixels of all; `ids` where the labels hold class ids, so that 255 in them is VOID.
    """
    overall = sum(counts.values(), np.zeros(len(classes), np.int64))
    if not overall.sum():
        return [f"every pixel of every label is void ({VOID}): accepted are labels that hold classes"]
    if ids and void and not overall[1:].sum():
        first, second, *more = classes
        what = f"class above 0 ({first})" if more else f"class 1 ({second})"
        return [
            f"no label holds a {what}, but {void:,} pixels are void ({VOID}): if {VOID} is your {second}, set "
            f'data.reader.palette to {{"#000000": {first}, "#ffffff": {second}}}, or write 1 in its place'
        ]
    sides = {TRAIN: "training", VAL: "validation", TEST: "test"}
    empty = [words for side, words in sides.items() if side in counts and not counts[side].sum()]
    return [f"every pixel of the {words} labels is void ({VOID}): accepted is another split" for words in empty]
