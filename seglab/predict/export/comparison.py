"""How far an exported network is from its checkpoint, on images of several sizes and batches of several lengths."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from seglab.predict.export.program import Form

TOLERANCE = 1e-3
"""The most that an output may differ, as a share of the largest one: the order of sums alone makes 1e-5."""

LARGEST = 512
"""Side of the largest part of an image that is compared."""

Computed = Callable[[np.ndarray], np.ndarray]
"""Images `float32 [B,C,H,W]` -> outputs `[B,K,H,W]`."""


@dataclass(frozen=True)
class Difference:
    """The largest difference of outputs, the largest output, and the share of pixels that have the same class."""

    largest: float
    of: float
    equal: float
    sizes: list[str]

    @property
    def small(self) -> bool:
        """True if it is what the order of sums explains."""
        return self.largest <= TOLERANCE * max(self.of, 1e-6)

    def __str__(self) -> str:
        return (
            f"largest difference {self.largest:.2g} of outputs up to {self.of:.3g}, "
            f"{100 * self.equal:.3f} % of the map pixels equal"
        )


def batches(images: Sequence[np.ndarray], form: Form) -> Iterator[np.ndarray]:
    """Inputs of a form made of parts of images `[H,W,C]`: whole and odd sizes down to one pixel, one and several."""
    if form.tile is not None:
        tiles = [fitted(image, form.tile) for image in images]
        yield as_input(tiles[:1], form)
        yield as_input(tiles, form)
        return
    height = min(LARGEST, *(image.shape[0] for image in images))
    width = min(LARGEST, *(image.shape[1] for image in images))
    yield as_input([images[0][:LARGEST, :LARGEST]], form)
    for count, h, w in ((len(images), height, width), (2, height * 2 // 3 | 1, width // 2 | 1), (1, 5, 3), (1, 1, 1)):
        yield as_input([image[: min(h, height), : min(w, width)] for image in images[:count]], form)


def fitted(image: np.ndarray, side: int) -> np.ndarray:
    """A part of an image, or an image mirrored at its edges, of `side` x `side` pixels."""
    image = image[:side, :side]
    missing = [(0, side - size) for size in image.shape[:2]]
    return np.pad(image, (*missing, (0, 0)), mode="symmetric")


def as_input(images: Sequence[np.ndarray], form: Form) -> np.ndarray:
    stacked = np.stack(images).astype(np.float32) / np.float32(form.unit)
    return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))


def compared(exported: Computed, checkpoint: Computed, inputs: Sequence[np.ndarray]) -> Difference:
    """The difference of two computations. One that is not finite is infinite."""
    largest = of = 0.0
    pixels = equal = 0
    for image in inputs:
        found = exported(image)
        expected = checkpoint(image)
        if found.shape != expected.shape:
            raise ValueError(f"the exported network makes {list(found.shape)} of {list(image.shape)}")
        gap = np.abs(found - expected).max(initial=0)
        largest = max(largest, float(gap) if np.isfinite(gap) else float("inf"))
        of = max(of, float(np.abs(expected).max(initial=0)))
        same = found.argmax(1) == expected.argmax(1)
        pixels += same.size
        equal += int(same.sum())
    return Difference(largest, of, equal / pixels, ["x".join(map(str, i.shape)) for i in inputs])
