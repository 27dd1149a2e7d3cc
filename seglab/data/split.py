"""The split into training, validation and test images: by scene where scenes are known, else by a hash of the name."""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

log = logging.getLogger(__name__)

OTHER_SPLIT = "change data.val_scenes, data.val_fraction or data.fold"
OTHER_SCENES = "parts of a scene that do not overlap may be called scenes of their own in scenes.csv"


class SplitError(ValueError):
    """The split asked for leaves one side empty or names an unknown scene."""


CHANGE_TEST = "other data.test_scenes or data.test_fraction"


@dataclass(frozen=True)
class Rule:
    """Settings of a split, as `data` holds them. Raises ValueError for a fraction that is none."""

    val_scenes: Sequence[str] | None = None
    val_fraction: float = 0.2
    fold: int | None = None
    folds: int = 5
    split_seed: int = 0
    test_scenes: Sequence[str] | None = None
    test_fraction: float = 0.0
    train_scenes: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.val_fraction < 1:
            raise ValueError(f"val_fraction={self.val_fraction}: accepted is a share between 0 and 1")
        if not 0 <= self.test_fraction < 1:
            raise ValueError(f"test_fraction={self.test_fraction}: accepted is 0 (no test split) or a share below 1")

    def sides(self, groups: Sequence[str]) -> tuple[list[int], list[int], list[int]]:
        """Indices (train, validation, test) of images whose group is given; no group is on two sides.

        The test images, none by default, are taken first; the others are split as if there were no more images.
        Where `train_scenes` are named, images of no other scene train: they are on no side. Raises SplitError.
        """
        test = self._test(groups)
        rest = [i for i, g in enumerate(groups) if g not in test]
        if not rest:
            raise SplitError(
                f"no image is left beside the test split of {len(test)} scene(s): accepted are {CHANGE_TEST}"
            )
        left = [groups[i] for i in rest]
        try:
            train, val = split(left, self.val_scenes, self.val_fraction, self.fold, self.folds, self.split_seed)
        except SplitError as e:
            raise SplitError(f"{e}; {len(test)} scene(s) are kept for the test" if test else str(e)) from e
        train = self._trains([rest[i] for i in train], groups)
        return train, [rest[i] for i in val], [i for i, g in enumerate(groups) if g in test]

    def _trains(self, train: list[int], groups: Sequence[str]) -> list[int]:
        """Those of the training images that are of `train_scenes`; all where none are named."""
        if self.train_scenes is None:
            return train
        _check_known("train_scenes", self.train_scenes, Counter(groups))
        there = {groups[i] for i in train}
        elsewhere = sorted({*self.train_scenes} - there)
        if elsewhere or not self.train_scenes:
            where = f"{elsewhere}: on another side of the split" if elsewhere else "[]: no scene"
            raise SplitError(f"train_scenes {where}; accepted are {sorted(there)}, or null for all of them")
        return [i for i in train if groups[i] in self.train_scenes]

    def _test(self, groups: Sequence[str]) -> set[str]:
        """The groups of the test split: those of `test_scenes`, or a share by a hash of its own."""
        sizes = Counter(groups)
        test: set[str] = set()
        if self.test_scenes is not None:
            _check_known("test_scenes", self.test_scenes, sizes)
            test = {*self.test_scenes}
        elif self.test_fraction:
            test = _share(_hashed(sizes, f"{self.split_seed}:test"), sizes, self.test_fraction)
        both = sorted(test & {*(self.val_scenes or ())})
        if both:
            raise SplitError(f"val_scenes {both}: in the test split, too; accepted are other scenes, or {CHANGE_TEST}")
        return test


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
    order = _hashed(sizes, str(split_seed))
    if val_scenes is not None:
        _check_known("val_scenes", val_scenes, sizes)
        chosen = set(val_scenes)
    elif fold is not None:
        chosen = _fold(order, sizes, fold, folds)
    else:
        chosen = _share(order, sizes, val_fraction)
    val = [i for i, g in enumerate(groups) if g in chosen]
    train = [i for i, g in enumerate(groups) if g not in chosen]
    if not train or not val:
        many = f"{len(train)} images to train and {len(val)} to validate from {len(sizes)} scene(s)"
        raise SplitError(f"{many}: each side needs one; {OTHER_SPLIT if len(sizes) > 1 else OTHER_SCENES}")
    return train, val


def _hashed(sizes: Counter[str], salt: str) -> list[str]:
    return sorted(sizes, key=lambda g: hashlib.sha256(f"{salt}:{g}".encode()).digest())


def _check_known(name: str, scenes: Sequence[str], sizes: Counter[str]) -> None:
    unknown = [s for s in scenes if s not in sizes]
    if unknown:
        raise SplitError(f"{name} {unknown}: no such scene, accepted are {sorted(sizes)}")


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
