"""Scores of scenes of any size: overlapping tiles of a fixed grid, blended so that no seam shows, row by row."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from seglab.data.files.rasters import Raster
from seglab.maps.scoring import class_map
from seglab.models.network import Network
from seglab.predict.tiles.forward import Forward

LEAST = 2.0**-20
"""The least weight of a tile at a pixel: positive everywhere, and too small to show a border's wrong values."""


class Span(NamedTuple):
    """Pixels `start <= i < stop` of an axis."""

    start: int
    stop: int


class Area(NamedTuple):
    """A part of an image, in its pixels."""

    left: int
    top: int
    width: int
    height: int

    def within(self, height: int, width: int) -> bool:
        """True if it has pixels, and all are of an image of this size."""
        return 0 <= self.left < self.left + self.width <= width and 0 <= self.top < self.top + self.height <= height


@dataclass(frozen=True)
class Tiling:
    """A grid of tiles of `size` pixels a side of which neighbours share `overlap`; it never depends on what is mapped.

    Tiles begin at `offset` and each `size - overlap` pixels on; the last one of an axis is cut at the scene's edge, as
    is the one before `offset`. A scene that is no larger than a tile is one tile.
    """

    size: int
    overlap: int
    offset: int = 0

    def __post_init__(self) -> None:
        if not 0 <= 2 * self.overlap <= self.size:
            raise ValueError(f"overlap {self.overlap}: accepted is 0 to {self.size // 2}, half of the tile")
        if self.size < 1 or not 0 <= self.offset < self.stride:
            raise ValueError(f"tile {self.size}, offset {self.offset}: accepted are a tile from 1 and an offset in it")

    @property
    def stride(self) -> int:
        return self.size - self.overlap

    def spans(self, length: int) -> list[Span]:
        """The tiles of an axis; each shares `overlap` pixels with the next and reaches at least one pixel beyond."""
        start = self.offset - self.stride if self.offset else 0
        found = []
        while True:
            found.append(Span(max(0, start), min(start + self.size, length)))
            if start + self.size >= length:
                return found
            start += self.stride

    def check(self, nets: Sequence[Network]) -> None:
        """Raises ValueError unless the networks see the pixels of a tile on the same places as in a whole image."""
        divisor = max(net.divisor for net in nets)
        for name, value in (("tile", self.size), ("overlap", self.overlap), ("offset", self.offset)):
            if value % divisor:
                raise ValueError(f"{name} {value}: accepted are multiples of {divisor}, by which the model divides")


class Block(NamedTuple):
    """Finished pixels: `scores float32 [K,h,w]`, `classes uint8 [h,w]` on the network's device, `hidden [h,w]`."""

    top: int
    left: int
    scores: Tensor
    classes: Tensor
    hidden: np.ndarray | None
    last: bool
    """of its rows"""


class Strip(NamedTuple):
    """Finished rows from `top` on: `scores float32 [K,h,W]` (probabilities), `classes uint8`, `hidden bool [h,W]`."""

    top: int
    scores: np.ndarray
    classes: np.ndarray
    hidden: np.ndarray


def tiled(
    nets: Sequence[Network], raster: Raster, tiling: Tiling, area: Area | None = None, tta: str = "none"
) -> Iterator[Strip]:
    """The rows of a scene, or of a part of it, as they finish: the mean of the networks' probabilities.

    The classes of one network are those of its logits, as in a map of the whole image. `tta`: of TTA, whose logits are
    averaged. Raises ValueError that names file and window where pixels can't be read or scores are not finite.
    """
    row: list[Block] = []
    for block in blocks(nets, raster, tiling, area, tta):
        row.append(block)
        if block.last:
            yield _strip(row)
            row = []


def _strip(row: Sequence[Block]) -> Strip:
    hidden = [np.zeros(b.classes.shape, bool) if b.hidden is None else b.hidden for b in row]
    scores = np.concatenate([b.scores.cpu().numpy() for b in row], 2)
    classes = np.concatenate([b.classes.cpu().numpy() for b in row], 1)
    return Strip(row[0].top, scores, classes, np.concatenate(hidden, 1))


def blocks(
    nets: Sequence[Network],
    raster: Raster,
    tiling: Tiling,
    area: Area | None = None,
    tta: str = "none",
    scores: bool = True,
) -> Iterator[Block]:
    """The parts that tiles finish, from the left to the right, row by row: little more than a tile is in memory.

    A part has the same values whatever the area: exactly those tiles are computed that hold a pixel of it. Without
    `scores`, those of one network are its logits.
    """
    tiling.check(nets)
    left, top, width, height = area or Area(0, 0, raster.width, raster.height)
    rows = _needed(tiling.spans(raster.height), top, top + height)
    columns = _needed(tiling.spans(raster.width), left, left + width)
    sums = [_Sum(rows, columns, _rising(tiling.overlap, net.reach)) for net in nets]
    for tile in Forward(nets, raster, tta).tiles([r.span for r in rows], [c.span for c in columns]):
        row, column = rows[tile.row], columns[tile.column]
        finished = [one.add(tile.row, tile.column, logits) for one, logits in zip(sums, tile.logits, strict=True)]
        part = Span(max(row.span.start, top), min(row.until, top + height))
        across = Span(max(column.span.start, left), min(column.until, left + width))
        if part.start < part.stop and across.start < across.stop:
            inner = _inside(part, row.span), _inside(across, column.span)
            # of the whole tile: kernels round the last pixels of a row otherwise than others
            values = probabilities(finished) if scores or len(finished) > 1 else finished[0]
            classes = class_map((finished[0] if len(finished) == 1 else values)[None])[0].to(torch.uint8)
            hidden = None if tile.hidden is None else tile.hidden[inner]
            last = across.stop == left + width
            yield Block(part.start, across.start, values[:, *inner], classes[inner], hidden, last)


def probabilities(logits: Sequence[Tensor]) -> Tensor:
    """The mean of the probabilities of several logits `[K,h,w]`."""
    total = logits[0].softmax(0)
    for one in logits[1:]:
        total += one.softmax(0)
    return total if len(logits) == 1 else total / len(logits)


class _Place(NamedTuple):
    """A tile's place on an axis: it finishes its pixels before `until`; has it tiles beside it in the whole scene?"""

    span: Span
    until: int
    before: bool
    after: bool


def _needed(spans: Sequence[Span], start: int, stop: int) -> list[_Place]:
    """The tiles that hold a pixel of `start <= i < stop`."""
    last = len(spans) - 1
    ends = [*(span.start for span in spans[1:]), spans[-1].stop]
    places = [_Place(span, ends[i], i > 0, i < last) for i, span in enumerate(spans)]
    return [place for place in places if place.span.start < stop and place.span.stop > start]


def _inside(part: Span, whole: Span) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)


def _rising(overlap: int, reach: int | None) -> Tensor:
    """Weights `[overlap]` of the later one of two tiles in the pixels that both hold.

    The half of a tile's overlap at its edge is left to the neighbour as far as the border's wrong values reach.
    """
    margin = reach if reach is not None and 2 * reach < overlap else overlap // 4
    weights = (torch.arange(overlap) + 0.5 - margin) / max(1, overlap - 2 * margin)
    return weights.clamp(LEAST, 1 - LEAST)


class _Sum:
    """The weighted sum of one network's tiles. Of what is not finished, it keeps the rows and columns tiles share."""

    def __init__(self, rows: Sequence[_Place], columns: Sequence[_Place], rising: Tensor):
        self._rows = rows
        self._columns = columns
        self._rising = rising
        self._right: Tensor | None = None
        self._below: Tensor | None = None

    def add(self, row: int, column: int, logits: Tensor) -> Tensor:
        """Takes a tile's logits `[K,h,w]`, row by row, and gives the pixels that it finishes."""
        down, across = self._rows[row], self._columns[column]
        shared = len(self._rising)
        for place, axis in ((down, 1), (across, 2)) if shared else ():
            rising = self._rising.to(logits.device).view([-1 if i == axis else 1 for i in range(3)])
            if place.before:
                logits.narrow(axis, 0, shared).mul_(rising)
            if place.after:
                logits.narrow(axis, logits.shape[axis] - shared, shared).mul_(1 - rising)
        if column > 0 and shared:
            assert self._right is not None
            logits[:, :, :shared] += self._right
        finished = across.until - across.span.start
        self._right = logits[:, :, finished:].clone() if across.after else None
        return self._with_above(row, across, logits[:, :, :finished])

    def _with_above(self, row: int, across: _Place, sums: Tensor) -> Tensor:
        shared = len(self._rising)
        down = self._rows[row]
        finished = down.until - down.span.start
        first = self._columns[0].span.start
        here = slice(across.span.start - first, across.until - first)
        below = sums[:, finished:]
        if row > 0 and shared:
            assert self._below is not None
            sums[:, :shared] += self._below[:, :, here]
        if down.after and row + 1 < len(self._rows):
            if self._below is None:
                self._below = sums.new_zeros(len(sums), shared, self._columns[-1].until - first)
            self._below[:, :, here] = below
        return sums[:, :finished]
