"""Tiles of a raster through networks: read a few at a time, computed on the networks' device, checked."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from seglab.data.files.pixels import Pixels
from seglab.data.files.rasters import Raster
from seglab.maps.scoring import evaluating
from seglab.models.network import Network

READ_BYTES = 64_000_000
"""Pixels of a row of tiles that are read at once: the strips of a file that is not tiled are then decoded once."""

BATCHES = {"cuda": 4}
"""Tiles that a device computes at once, if more than one; it then reads the next ones while it computes."""

TTA: dict[str, list[tuple[int, bool]]] = {
    "none": [(0, False)],
    "flips": [(0, False), (0, True), (2, False), (2, True)],
    "d4": [(turns, flipped) for turns in range(4) for flipped in (False, True)],
}
"""Test-time augmentation: quarter turns, and whether the turned image is mirrored."""

T = TypeVar("T")


class Tile(NamedTuple):
    """A tile by its number of row and column: logits `float32 [K,h,w]` of each network; `hidden bool [h,w]` or None."""

    row: int
    column: int
    logits: list[Tensor]
    hidden: np.ndarray | None


class Forward:
    """Networks on one device, and the raster whose tiles they see."""

    def __init__(self, nets: Sequence[Network], raster: Raster, tta: str = "none"):
        self.nets = nets
        self.raster = raster
        self.symmetries = TTA[tta]
        self.device = next(nets[0].parameters()).device
        self.at_once = BATCHES.get(self.device.type, 1)

    def tiles(self, rows: Sequence[tuple[int, int]], columns: Sequence[tuple[int, int]]) -> Iterator[Tile]:
        """The tiles of these rows and columns of pixels, row by row. Raises ValueError naming file and window."""
        batches = self._batches(rows, columns)
        for row, first, pixels in _ahead(batches) if self.at_once > 1 else batches:
            logits = self._logits(pixels)
            for i, (values, hidden, _) in enumerate(pixels):
                column = first + i
                tile = [one[i] for one in logits]
                if not all(map(_finite, tile)):
                    window = _window(rows[row][0], columns[column][0], *values.shape[:2])
                    raise ValueError(f"{self.raster.path}: the scores of {window} are not finite")
                yield Tile(row, column, tile, hidden)

    def _batches(
        self, rows: Sequence[tuple[int, int]], columns: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[int, int, list[Pixels]]]:
        """Row, first column and pixels of tiles of one size that lie side by side."""
        for row, (top, bottom) in enumerate(rows):
            waiting: list[Pixels] = []
            for column, pixels in enumerate(self._read(top, bottom - top, columns)):
                if waiting and (len(waiting) == self.at_once or waiting[0].values.shape != pixels.values.shape):
                    yield row, column - len(waiting), waiting
                    waiting = []
                waiting.append(pixels)
            yield row, len(columns) - len(waiting), waiting

    def _read(self, top: int, height: int, columns: Sequence[tuple[int, int]]) -> Iterator[Pixels]:
        bytes_per_column = height * self.raster.bands * self.raster.dtype.itemsize
        first = 0
        while first < len(columns):
            left = columns[first][0]
            last = first
            while last + 1 < len(columns) and (columns[last + 1][1] - left) * bytes_per_column <= READ_BYTES:
                last += 1
            right = columns[last][1]
            try:
                values, hidden, orientation = self.raster.read(top, left, height, right - left)
            except ValueError as e:
                raise ValueError(f"{e} (in {_window(top, left, height, right - left)})") from e
            for start, stop in columns[first : last + 1]:
                part = np.s_[:, start - left : stop - left]
                yield Pixels(values[part], None if hidden is None else hidden[part], orientation)
            first = last + 1

    def _logits(self, pixels: Sequence[Pixels]) -> list[Tensor]:
        """Of each network `float32 [B,K,h,w]`. Tiles that hold nothing are not computed."""
        height, width, bands = pixels[0].values.shape
        if all(one.hidden is not None and one.hidden.all() for one in pixels):
            nothing = np.zeros((1, 1, bands), pixels[0].values.dtype)
            classes = [one.shape[1] for one in self._of(torch.from_numpy(nothing)[None])]
            return [torch.zeros(len(pixels), k, height, width, device=self.device) for k in classes]
        return self._of(torch.from_numpy(np.stack([one.values for one in pixels])))

    def _of(self, images: Tensor) -> list[Tensor]:
        if self.device.type == "cuda":
            images = images.pin_memory()
        batch = images.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float()
        if len(batch) == 1:
            batch = batch[0][None]  # strides of an only image, by which kernels of a narrow one choose their order
        return [self._averaged(net, batch) for net in self.nets]

    def _averaged(self, net: Network, batch: Tensor) -> Tensor:
        with evaluating(net):
            found = [_turned_back(net(_turned(batch, *s)).float(), *s) for s in self.symmetries]
            return found[0] if len(found) == 1 else torch.stack(found).mean(0)


def _finite(logits: Tensor) -> bool:
    """True if all are; their sum, which is 20 times faster, tells unless it is too large itself."""
    return bool(torch.isfinite(logits.sum())) or bool(torch.isfinite(logits).all())


def _turned(image: Tensor, turns: int, flipped: bool) -> Tensor:
    image = torch.rot90(image, turns, (-2, -1)) if turns else image
    return image.flip(-1) if flipped else image


def _turned_back(image: Tensor, turns: int, flipped: bool) -> Tensor:
    image = image.flip(-1) if flipped else image
    return torch.rot90(image, -turns, (-2, -1)) if turns else image


def _window(top: int, left: int, height: int, width: int) -> str:
    return f"the window of {width}x{height} pixels from column {left}, row {top}"


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items; the next one is made by another thread while one is used."""
    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = worker.submit(next, items, None)
            yield item
