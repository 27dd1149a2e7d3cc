"""A trained run as an object that maps arrays and files: `seglab.load`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np

from seglab.config.constructors import trusting
from seglab.data.files.pixels import Pixels
from seglab.data.files.rasters import TYPES, Decoded, Raster, open_raster
from seglab.labels import VOID
from seglab.predict import trained
from seglab.predict.output.files import large_pictures
from seglab.predict.tiles.memory import tiling_for
from seglab.predict.tiles.scale import back, seen
from seglab.predict.tiles.tiling import Strip, Tiling, tiled
from seglab.predict.trained import Trained
from seglab.run.folder import Run

Image = np.ndarray | Path | str
"""An array `[H,W,C]` in the units of the training images (RGB in 0..255 unless they are rasters), or a file."""


def load(
    run: Path | str,
    checkpoint: str = "last",
    device: str = "cpu",
    resolution: str | None = None,
    trust: Sequence[str] | str = (),
) -> "Predictor":
    """A finished run, ready to map images; `checkpoint` is `last` or `best`, the epoch of the highest validation mIoU.

    `device`: cpu, cuda or auto. `resolution`: `resample` or `keep` for image files of other metres a pixel than the
    training's, which are refused otherwise. `trust` names packages of which the run folder may make models: their code
    then runs. Raises FileNotFoundError for a folder that is none, and ValueError, one line, for one that can't be used.
    """
    for name, value, accepted in (
        ("checkpoint", checkpoint, ("last", "best")),
        ("resolution", resolution, (None, "resample", "keep")),
    ):
        if value not in accepted:
            raise ValueError(f"{name}={value!r}: accepted are {', '.join(map(str, accepted))}")
    with trusting([trust] if isinstance(trust, str) else trust):
        return Predictor(trained.load([Run(run)], checkpoint, trained.device_of(device), None, resolution))


class Predictor:
    """Maps of images of any size by one run, the same as those of `seglab predict`."""

    def __init__(self, source: Trained):
        self._trained = source

    @property
    def classes(self) -> dict[str, str]:
        """Names of the classes and their colours `#rrggbb`, in the order of their ids."""
        return dict(self._trained.classes)

    @property
    def bands(self) -> list[int] | None:
        """Bands of an image file that the network sees, counted from 1; None of a run on 8-bit RGB."""
        return self._trained.bands

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._trained.name!r}, classes={list(self.classes)})"

    def predict(self, image: Image) -> np.ndarray:
        """Class ids `uint8 [H,W]`; 255 where the image has no value. Raises ValueError, one line."""
        with self._opened(image) as raster:
            ids = back(np.concatenate([strip.classes for strip in self._strips(raster)]), raster.height, raster.width)
            hidden = _hidden(raster)
        return ids if hidden is None else np.where(hidden, np.uint8(VOID), ids)

    def probabilities(self, image: Image) -> np.ndarray:
        """Probabilities `float32 [K,H,W]` of the classes; NaN where the image has no value. Raises ValueError."""
        with self._opened(image) as raster:
            found = np.concatenate([strip.scores for strip in self._strips(raster)], 1)
            scores = np.stack([back(of_class, raster.height, raster.width) for of_class in found])
            hidden = _hidden(raster)
        return scores if hidden is None else np.where(hidden, np.float32(np.nan), scores)

    @cached_property
    def _tiling(self) -> Tiling:
        return tiling_for(self._trained.nets)

    def _strips(self, raster: Raster) -> Iterator[Strip]:
        scale = self._trained.scale.for_image(raster.path, raster.grid)
        return tiled(self._trained.nets, seen(raster, scale, self._tiling.size), self._tiling)

    @contextmanager
    def _opened(self, image: Image) -> Iterator[Raster]:
        if isinstance(image, np.ndarray):
            yield Decoded(Path("array"), self._array(image))
            return
        with large_pictures(), open_raster(Path(image), self.bands) as raster:
            yield raster

    def _array(self, image: np.ndarray) -> Pixels:
        """An array as if it had been read: a value that is not finite is missing."""
        bands = self._trained.nets[0].bands
        types = ("uint8",) if self.bands is None else TYPES
        if image.ndim != 3 or image.shape[2] != bands or 0 in image.shape or str(image.dtype) not in types:
            raise ValueError(
                f"an array {image.dtype} of shape {list(image.shape)}: accepted is {' or '.join(types)} "
                f"[height, width, {bands}]"
            )
        missing = ~np.isfinite(image)
        hidden = missing.all(-1)
        return Pixels(np.where(missing, image.dtype.type(0), image), hidden if hidden.any() else None, 1)


def _hidden(raster: Raster) -> np.ndarray | None:
    return raster.read(0, 0, raster.height, raster.width).hidden
