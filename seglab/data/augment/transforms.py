"""Augmentation with albumentations, where every draw is a function of (seed, epoch, index)."""

import warnings
from collections.abc import Iterator, Sequence

import albumentations as A
import cv2
import numpy as np

from seglab.data.augment import probe
from seglab.data.augment.draws import Draws, only_moves, seeded
from seglab.data.augment.patch import Patch
from seglab.labels import VOID


class Augmentation:
    """Random transforms of a training sample, then a random crop of `crop` (H, W) if given.

    Raises ValueError for a transform that would invent labels: by filling with a class or by interpolating.
    """

    def __init__(self, transforms: Sequence[A.BasicTransform | A.BaseCompose], crop: tuple[int, int] | None):
        for t in _leaves(transforms):
            _check_keeps_labels(t)
        self._transforms = list(transforms)
        self._crop = crop
        steps = list(transforms)
        if crop:
            steps.append(A.RandomCrop(*crop, pad_if_needed=True, fill=0, fill_mask=VOID))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # albumentations only warns of arguments it drops
            self._compose = A.Compose(steps)
        self.only_moves = all(map(only_moves, steps))
        self._draws = Draws(steps) if self.only_moves and steps else None

    def faults(self, image: np.ndarray, batch_size: int) -> list[str]:
        """One line for the first transform that would spoil such an image `[H,W,C]`, its label, or a batch."""
        return probe.faults(self._transforms, image, one_size=batch_size > 1 and not self._crop)

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, seed: int, epoch: int, index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The sample as epoch `epoch` sees it, whichever process asks and whatever it did before."""
        if not self._compose.transforms:
            return image, mask
        out = seeded(self._compose, _seed(seed, epoch, index))(image=image, mask=mask)
        return out["image"], out["mask"]

    def draw(self, patch: Patch, seed: int, epoch: int, index: int) -> Patch:
        """The same of a sample that is not read yet, where transforms only move pixels: bit for bit the same pixels."""
        return self._draws(patch, _seed(seed, epoch, index)) if self._draws else patch


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _leaves(transforms: Sequence) -> Iterator[A.BasicTransform]:
    for t in transforms:
        if isinstance(t, A.BaseCompose):
            yield from _leaves(t.transforms)
        else:
            yield t


def _check_keeps_labels(transform: A.BasicTransform) -> None:
    name = type(transform).__name__
    if getattr(transform, "fill_mask", VOID) not in (None, VOID):  # None leaves the label as it is
        raise ValueError(
            f"augment {name}: fill_mask={transform.fill_mask} gives empty pixels a class, accepted is {VOID}, void"
        )
    if getattr(transform, "mask_interpolation", cv2.INTER_NEAREST) not in (cv2.INTER_NEAREST, cv2.INTER_NEAREST_EXACT):
        raise ValueError(f"augment {name}: mask_interpolation must be 0 (nearest): labels are never interpolated")
