"""A trial of each transform before anything trains: does it keep the image an image and the label a label?"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import albumentations as A
import numpy as np

from seglab.labels import VOID

TRIES, TRIES_OF_ALL = 8, 32
"""Draws of each transform, and of all together where one of them changes the size."""
LARGE = 512
"""Pixels of the shorter side from which twice as many are tried by a part: else 5000 x 5000 take 15 seconds."""
ONE, OTHER = 40, 200
"""Values of the two trial labels; where one holds ONE the other holds OTHER, so that mixing or repainting shows."""


@dataclass(frozen=True)
class Sample:
    """Image `[H,W,C]` and two labels `uint8 [H,W]` that are each other's opposite."""

    image: np.ndarray
    label: np.ndarray
    opposite: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.label.shape[0], self.label.shape[1]


def faults(transforms: Sequence[A.BasicTransform | A.BaseCompose], image: np.ndarray, one_size: bool) -> list[str]:
    """One line for the first transform that spoils images or labels, or gives several sizes where `one_size` is asked.

    It works on copies with a random state of their own, so that no draw of a training is another. A large image is
    tried by its corner; a fault there must also be one of the whole image.
    """
    corner = _corner(image)
    found = _faults(transforms, corner, one_size)
    return found if corner.shape == image.shape else found and _faults(transforms, image, one_size)


def _corner(image: np.ndarray) -> np.ndarray:
    """A part of a large image, square only where the whole is."""
    h, w = image.shape[:2]
    part = max(1, min(h, w) // LARGE)
    height, width = h // part, w // part
    return image[:height, : width + (height == width and h != w)]


def _faults(transforms: Sequence[A.BasicTransform | A.BaseCompose], image: np.ndarray, one_size: bool) -> list[str]:
    label = np.where(np.random.default_rng(0).random(image.shape[:2]) < 0.5, ONE, OTHER).astype(np.uint8)
    sample = Sample(image, label, (ONE + OTHER - label).astype(np.uint8))
    resizing: list[str] = []
    try:
        for transform in transforms:
            sample = _tried(transform, sample, resizing)
        if one_size and resizing:
            _check_sizes(transforms, Sample(image, label, label), resizing)
    except ValueError as e:
        return [str(e)]
    return []


def _tried(transform: A.BasicTransform | A.BaseCompose, sample: Sample, resizing: list[str]) -> Sample:
    """The sample after a transform that is applied in any case, for the next one to be tried on."""
    if not transform.p:
        return sample
    if not isinstance(transform, A.BaseCompose):
        return _tried_alone(transform, sample, resizing)
    one_of_them = isinstance(transform, A.OneOf | A.SomeOf)
    after = sample
    for child in transform.transforms:
        after = _tried(child, sample if one_of_them else after, resizing)
    return after


def _tried_alone(transform: A.BasicTransform, sample: Sample, resizing: list[str]) -> Sample:
    name = type(transform).__name__
    always = copy.deepcopy(transform)
    always.p = 1.0
    after = sample
    for out in _draws([always], sample, TRIES, name):
        if why := _spoilt(out, sample.image):
            raise ValueError(f"augment {name}: {why}")
        after = Sample(out["image"], out["mask"], out["opposite"])
        if after.size != sample.size and name not in resizing:
            resizing.append(name)
    return after


def _draws(transforms: Sequence, sample: Sample, count: int, name: str) -> list[dict]:
    """The sample as `count` seeds transform it. Raises ValueError where it cannot be transformed."""
    try:
        compose = A.Compose(transforms, additional_targets={"opposite": "mask"})
        out = []
        for seed in range(count):
            compose.set_random_seed(seed)
            out.append(compose(image=sample.image, mask=sample.label, opposite=sample.opposite))
        return out
    except Exception as e:  # of any kind: these are other people's transforms
        why = (str(e) or type(e).__name__).splitlines()[0]
        raise ValueError(f"augment {name}: fails on an image of {sample.size[1]}x{sample.size[0]}: {why}") from e


def _spoilt(out: dict, before: np.ndarray) -> str | None:
    """The fault of a transformed sample, whose image was `before`; None if it has none."""
    image, label, opposite = out["image"], out["mask"], out["opposite"]
    kinds = [part.dtype if isinstance(part, np.ndarray) else f"a {type(part).__name__}" for part in (image, label)]
    if not isinstance(image, np.ndarray) or image.dtype != before.dtype:
        return f"makes the image {kinds[0]}, accepted is {before.dtype}: models scale and normalise images themselves"
    if image.ndim != 3 or image.shape[2] != before.shape[2]:
        return f"makes the image {list(image.shape)}, accepted is [H, W, {before.shape[2]}]"
    if image.dtype.kind == "f" and (before > 1).mean() > 0.5 and not (image > 1).any():
        return "cuts floats to 0..1: accepted are transforms that leave values as they are, such as flips"
    if not isinstance(label, np.ndarray) or label.dtype != np.uint8:
        return f"makes the label {kinds[1]}, accepted is uint8"
    if label.shape != image.shape[:2]:
        return f"makes a label of {list(label.shape)} for an image of {list(image.shape[:2])}, accepted are equal sizes"
    kept = (label != opposite) & np.isin(label, (ONE, OTHER)) & np.isin(opposite, (ONE, OTHER))
    if not (kept | ((label == VOID) & (opposite == VOID))).all():
        return f"changes what labels hold, accepted are their own values, moved, or {VOID} (void)"
    return None


def _check_sizes(transforms: Sequence, sample: Sample, resizing: Sequence[str]) -> None:
    """Raises ValueError where draws of all transforms together end in images of several sizes."""
    names = " and ".join(resizing)
    even = [copy.deepcopy(transform) for transform in transforms]
    for transform in even:
        _even_chances(transform)
    sizes = sorted({out["mask"].shape for out in _draws(even, sample, TRIES_OF_ALL, names)})
    if len(sizes) > 1:
        shown = ", ".join(f"{h}x{w}" for h, w in sizes[:3]) + (", …" if len(sizes) > 3 else "")
        raise ValueError(
            f"augment {names}: makes images of several sizes (height x width {shown}), which no batch can hold: "
            "set data.crop, give a square data.size if only sides are swapped, or leave it out of data.augment"
        )


def _even_chances(transform: A.BasicTransform | A.BaseCompose) -> None:
    """Lets what happens sometimes happen half of the time, so that a few draws show it."""
    if 0 < transform.p < 1:
        transform.p = 0.5
    for child in getattr(transform, "transforms", ()):
        _even_chances(child)
