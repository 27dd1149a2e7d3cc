"""An image at another size by window: a pixel depends on its place in the whole image, never on the window."""

from pathlib import Path

import numpy as np

from seglab.data.files.pixels import Pixels
from seglab.data.files.rasters import Grid, Raster

READ_BYTES = 64_000_000
"""Pixels of the image that are read at once."""


class Resampled:
    """An image at another size, as training resizes it: by area, or linearly where an axis grows.

    Within one level of OpenCV's whole image, which rounds weights to 11 bits.
    """

    grid: Grid | None = None

    def __init__(self, raster: Raster, height: int, width: int):
        self._raster = raster
        self.path: Path = raster.path
        self.height = height
        self.width = width
        self.bands = raster.bands
        self.dtype = raster.dtype
        self._by_area = height <= raster.height and width <= raster.width
        self._halved = (2 * height, 2 * width) == (raster.height, raster.width)  # OpenCV then rounds halves up

    def read(self, top: int, left: int, height: int, width: int) -> Pixels:
        rows = self._taps(top, height, self._raster.height, self.height)
        columns = self._taps(left, width, self._raster.width, self.width)
        values = np.empty((height, width, self.bands), self.dtype)
        hidden = np.zeros((height, width), bool)
        bytes_per_row = (1 + np.ptp(columns[0])) * self.bands * self.dtype.itemsize
        step = max(1, int(READ_BYTES / bytes_per_row / max(1, self._raster.height / self.height)))
        for start in range(0, height, step):
            part = np.s_[start : start + step]
            values[part], hidden[part] = self._resampled((rows[0][part], rows[1][part]), columns)
        return Pixels(values, hidden if hidden.any() else None, 1)

    def _taps(self, start: int, count: int, source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each pixel the source's pixels and their weights, `[count,taps]` both."""
        at = np.arange(start, start + count, dtype=np.int64)[:, None]
        if not self._by_area:
            centre = (at + 0.5) * (source / target) - 0.5
            first = np.floor(centre).astype(np.int64)
            share = centre - first
            places = np.concatenate([first, first + 1], 1).clip(0, source - 1)
            return places, np.concatenate([1 - share, share], 1).astype(np.float32)
        # whole numbers, in parts of a source pixel, leave no pixel in doubt
        begin = at * source
        places = begin // target + np.arange(-(-source // target) + 1)
        shares = np.minimum((places + 1) * target, begin + source) - np.maximum(places * target, begin)
        return places.clip(0, source - 1), (shares.clip(0) / source).astype(np.float32)

    def _resampled(self, rows: tuple, columns: tuple) -> tuple[np.ndarray, np.ndarray]:
        top = int(rows[0].min())
        left = int(columns[0].min())
        size = int(rows[0].max()) - top + 1, int(columns[0].max()) - left + 1
        values, missing, _ = self._raster.read(top, left, *size)
        down = _summed(values, rows[0] - top, rows[1], 0)
        out = _summed(down, columns[0] - left, columns[1], 1)
        if self.dtype.kind != "f":
            out = np.floor(out + 0.5) if self._halved else np.rint(out)
        if missing is None:
            return out.astype(self.dtype), np.zeros(out.shape[:2], bool)
        seen = _summed((~missing).astype(np.float32), rows[0] - top, rows[1], 0)
        return out.astype(self.dtype), _summed(seen, columns[0] - left, columns[1], 1) == 0


def _summed(values: np.ndarray, places: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """Weighted sums along an axis, tap by tap: the same bits whatever is summed beside it."""
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    total: np.ndarray | None = None
    for place, weight in zip(places.T, weights.T, strict=True):
        term = values.take(place, axis).astype(np.float32)
        term *= weight.reshape(shape)
        total = term if total is None else np.add(total, term, out=total)
    assert total is not None
    return total


def nearest(start: int, count: int, target: int, source: int) -> np.ndarray:
    """The pixel of `source` that lies nearest to the centre of each of `count` pixels of `target`, from `start` on."""
    return (2 * np.arange(start, start + count, dtype=np.int64) + 1) * source // (2 * target)
