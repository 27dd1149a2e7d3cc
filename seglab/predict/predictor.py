"""A trained run as an object that maps arrays and files: `seglab.load`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seglab.config.constructors import trusting
from seglab.config.read import read
from seglab.data.pixels import Pixels
from seglab.data.rasters import TYPES, Decoded, open_raster
from seglab.labels import VOID
from seglab.models.network import Network
from seglab.predict.predict import load_network
from seglab.predict.scale import Scale, back, scale_of
from seglab.predict.tiling import Tiling, tiled
from seglab.run.folder import Run

TILE = 1024
OVERLAP = 256

Image = np.ndarray | Path | str
"""An array `[H,W,C]` in the units of the training images (RGB in 0..255 unless they are rasters), or a file."""


def load(run: Path | str, checkpoint: str = "last", device: str = "cpu", trust: Sequence[str] = ()) -> "Predictor":
    """A finished run, ready to map images; `checkpoint` is `last` or `best`, the epoch of the highest validation mIoU.

    `trust` names packages of which the run folder may make models: their code then runs. Raises FileNotFoundError for
    a folder that is none, and ValueError, one line, for one whose config or checkpoint can't be used.
    """
    accepted = ("last", "best")
    if checkpoint not in accepted:
        raise ValueError(f"checkpoint={checkpoint!r}: accepted are {' and '.join(accepted)}")
    found = Run(run)
    with trusting(trust):
        return Predictor(found, load_network(found, checkpoint).to(device), scale_of(found))


class Predictor:
    """Maps of images of any size by one run, the same as those of `seglab predict`.

    `classes`: names and colours `#rrggbb`, in the order of class ids. `bands`: those of an image file that the network
    sees, counted from 1; None of a run on 8-bit RGB.
    """

    def __init__(self, run: Run, net: Network, scale: Scale):
        config = read(run)
        self.folder = run.folder
        self.classes: dict[str, str] = config.classes
        self.bands: list[int] | None = config.bands
        self._net = net
        self._scale = scale

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r}, classes={list(self.classes)})"

    def predict(self, image: Image) -> np.ndarray:
        """Class ids `uint8 [H,W]`; 255 where the image has no value. Raises ValueError, one line."""
        pixels = self._pixels(image)
        height, width = pixels.values.shape[:2]
        ids = np.concatenate([strip.classes for strip in self._strips(pixels)])
        ids = back(ids, height, width)
        return ids if pixels.hidden is None else np.where(pixels.hidden, np.uint8(VOID), ids)

    def probabilities(self, image: Image) -> np.ndarray:
        """Probabilities `float32 [K,H,W]` of the classes; NaN where the image has no value. Raises ValueError."""
        pixels = self._pixels(image)
        height, width = pixels.values.shape[:2]
        scores = np.concatenate([strip.scores for strip in self._strips(pixels)], 1)
        scores = np.stack([back(of_class, height, width) for of_class in scores])
        return scores if pixels.hidden is None else np.where(pixels.hidden, np.float32(np.nan), scores)

    def _strips(self, pixels: Pixels):
        shown = Decoded(Path("image"), Pixels(self._scale.shrunk(pixels.values), None, 1))
        return tiled([self._net], shown, Tiling(TILE, OVERLAP))

    def _pixels(self, image: Image) -> Pixels:
        if isinstance(image, np.ndarray):
            return self._array(image)
        with open_raster(Path(image), self.bands) as raster:
            return raster.read(0, 0, raster.height, raster.width)

    def _array(self, image: np.ndarray) -> Pixels:
        """An array as if it had been read: a value that is not finite is missing."""
        bands = self._net.bands
        types = ("uint8",) if self.bands is None else TYPES
        if image.ndim != 3 or image.shape[2] != bands or 0 in image.shape or str(image.dtype) not in types:
            raise ValueError(
                f"an array {image.dtype} of shape {list(image.shape)}: accepted is {' or '.join(types)} "
                f"[height, width, {bands}]"
            )
        missing = ~np.isfinite(image)
        hidden = missing.all(-1)
        return Pixels(np.where(missing, image.dtype.type(0), image), hidden if hidden.any() else None, 1)
