"""The scale at which a run maps an image: that at which it saw the images that it was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from seglab.config.read import of_data, read
from seglab.data.files.pixels import Pixels
from seglab.data.files.rasters import Decoded, Grid, Raster
from seglab.data.files.resize import resized
from seglab.predict.tiles.resampling import Resampled, nearest
from seglab.run.folder import Run

OTHERWISE = "a map has the size of its image, and --scale 1 maps it without resizing"

SAME = 1.25
"""The factor up to which two resolutions, in metres a pixel, are taken for the same."""

LARGEST = 1 << 24
"""Pixels of a side at which an image is mapped, at most."""

WHOLE = 50_000_000
"""Pixels up to which an image is resized whole, by OpenCV, if it fits a tile then."""


@dataclass(frozen=True)
class Scale:
    """Sizes at which images are mapped: `factors` of their own (height, width), or one `size` for all.

    `metres`: side of a pixel of the training images, for images that tell theirs. `resolution`: what is done with an
    image that differs from it: `resample` resizes it, `keep` maps it as it is, None refuses it.
    """

    factors: tuple[float, float] = (1.0, 1.0)
    size: tuple[int, int] | None = None
    words: str | None = None
    """Words for the user where images are resized."""
    metres: float | None = None
    resolution: str | None = None

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width at which an image of this size is mapped."""
        sides = [side * factor for side, factor in zip((height, width), self.factors, strict=True)]
        if max(sides) > LARGEST:
            raise ValueError(
                f"an image of {width}x{height} pixels, resized by {self.factors[1]:.4g}, has more than {LARGEST:,} a "
                "side; accepted is a smaller --scale"
            )
        down, across = (max(1, round(side)) for side in sides)
        return self.size or (down, across)

    def shrunk(self, image: np.ndarray) -> np.ndarray:
        """The image `[H,W,C]` resized as training resizes; itself at its own scale."""
        height, width = image.shape[:2]
        return resized(image, np.zeros((height, width), np.uint8), self.of(height, width))[0]

    def for_image(self, path: Path, grid: Grid | None) -> "Scale":
        """The scale of an image. Raises ValueError for one whose resolution differs, unless it is said what to do."""
        own = grid.metres if grid and self.metres and not self.size else None
        if own is None or self.metres is None or 1 / SAME <= own / self.metres <= SAME:
            return self
        if self.resolution is None:
            raise ValueError(
                f"{path}: {own:.4g} metres a pixel, and the run was trained at {self.metres:.4g}; accepted are "
                "--resolution resample, which maps it at the run's, and --resolution keep, which maps it as it is"
            )
        by = own / self.metres if self.resolution == "resample" else 1.0
        return replace(self, factors=(self.factors[0] * by, self.factors[1] * by))


def seen(raster: Raster, scale: Scale, tile: int) -> Raster:
    """The image as the network sees it: itself, or resized, whole if one tile holds it, else by window."""
    height, width = scale.of(raster.height, raster.width)
    if (height, width) == (raster.height, raster.width):
        return raster
    if max(height, width) <= tile and raster.height * raster.width <= WHOLE:
        values = scale.shrunk(raster.read(0, 0, raster.height, raster.width).values)
        return Decoded(raster.path, Pixels(values.reshape(height, width, raster.bands), None, 1))
    return Resampled(raster, height, width)


def back(prediction: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map `[H,W]` at the size of its image: each pixel has the class of the nearest one."""
    if prediction.shape == (height, width):
        return prediction
    rows = nearest(0, height, height, prediction.shape[0])
    return prediction[rows][:, nearest(0, width, width, prediction.shape[1])]


def scale_of(run: Run, asked: float | None = None, resolution: str | None = None) -> Scale:
    """The scale of a run, or the factor that is asked for."""
    if asked is not None:
        return Scale(factors=(asked, asked))
    known: Mapping[str, Any] = run.environment() if run.environment_file.exists() else {}
    metres = known.get("resolution")
    metres = float(metres) if isinstance(metres, int | float) and 0 < metres < float("inf") else None
    resized_to = of_data(read(run)).height_width
    if resized_to is None:
        return Scale(metres=metres, resolution=resolution)
    height, width = resized_to
    original = known.get("original_size")
    if original:
        factors = (height / original[0], width / original[1])
        both = " and ".join(dict.fromkeys(f"{factor:.4g}" for factor in factors))
        seen = f"{original[1]}x{original[0]}"
        words = f"images are mapped at {both} times their size, as the run's own of {seen} were"
        return Scale(factors, None, f"{words}; {OTHERWISE}", metres, resolution)
    why = "of several sizes" if "original_size" in known else "whose size it does not tell"
    words = f"each image is resized to {width}x{height}, as the run's own, {why}, were"
    return Scale((1.0, 1.0), (height, width), f"{words}; {OTHERWISE}")


def common_scale(runs: Sequence[Run], asked: float | None = None, resolution: str | None = None) -> Scale:
    """The scale of several runs. Raises ValueError where they differ: their maps would be of different images."""
    scales = [scale_of(run, asked, resolution) for run in runs]
    first = scales[0]
    for run, scale in zip(runs[1:], scales[1:], strict=True):
        if (scale.factors, scale.size) != (first.factors, first.size):
            raise ValueError(
                f"{run.folder}: maps images at another size than {runs[0].folder}; accepted are runs trained with the "
                "same data.size, or --scale"
            )
    metres = [scale.metres for scale in scales if scale.metres]
    if metres and max(metres) > SAME * min(metres):
        both = f"{min(metres):.4g} and {max(metres):.4g} metres a pixel"
        raise ValueError(f"the runs were trained at {both}; accepted are runs of one resolution")
    return replace(first, metres=metres[0] if metres else None)
