"""The split into training and validation images: by scene where scenes are known, else by a hash of the name."""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence

log = logging.getLogger(__name__)


class SplitError(ValueError):
    """The split asked for leaves one side empty or names an unknown scene."""


def split(
    groups: Sequence[str],
    val_scenes: Sequence[str] | None = None,
    val_fraction: float = 0.2,
    fold: int | None = None,
    folds: int = 5,
    split_seed: int = 0,
) -> tuple[list[int], list[int]]:
    """Indices (train, validation) of images whose group (scene or own name) is given; no group is on both sides.

    `val_scenes` names the validation groups; else `fold` of `folds` picks one part of a fixed partition; else groups
    are taken, in the order of a hash of their name, while they bring the share of images nearer to `val_fraction`.
    """
    sizes = Counter(groups)
    order = sorted(sizes, key=lambda g: hashlib.sha256(f"{split_seed}:{g}".encode()).digest())
    if val_scenes is not None:
        unknown = [s for s in val_scenes if s not in sizes]
        if unknown:
            raise SplitError(f"val_scenes {unknown}: no such scene, accepted are {sorted(sizes)}")
        chosen = set(val_scenes)
    elif fold is not None:
        chosen = _fold(order, sizes, fold, folds)
    else:
        chosen = _share(order, sizes, val_fraction)
    val = [i for i, g in enumerate(groups) if g in chosen]
    train = [i for i, g in enumerate(groups) if g not in chosen]
    if not train or not val:
        raise SplitError(
            f"{len(train)} images to train and {len(val)} to validate from {len(sizes)} scene(s): each side needs one; "
            "change data.val_scenes, data.val_fraction or data.fold"
        )
    return train, val


def _share(order: list[str], sizes: Counter[str], fraction: float) -> set[str]:
    wanted = fraction * sizes.total()
    taken = 0
    chosen = set()
    for group in order[: len(order) - 1] if len(order) > 1 else order:
        if abs(taken + sizes[group] - wanted) < abs(taken - wanted):
            chosen.add(group)
            taken += sizes[group]
    return chosen or {min(order, key=lambda g: sizes[g])}


def _fold(order: list[str], sizes: Counter[str], fold: int, folds: int) -> set[str]:
    if not 0 <= fold < folds:
        raise SplitError(f"fold {fold}: accepted are 0..{folds - 1} (data.folds={folds})")
    if folds > len(order):
        raise SplitError(f"folds {folds}: there are only {len(order)} scenes")
    parts: list[list[str]] = [[] for _ in range(folds)]
    for group in sorted(order, key=lambda g: -sizes[g]):  # largest first, each to the emptiest part
        min(parts, key=lambda p: sum(sizes[g] for g in p)).append(group)
    return set(parts[fold])
