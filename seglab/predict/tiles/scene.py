"""One image -> rows of class ids, confidence and probabilities, at the size of the image."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from seglab.data.files.rasters import Raster
from seglab.labels import VOID
from seglab.models.network import Network
from seglab.predict.output.resume import Part
from seglab.predict.tiles.resampling import nearest
from seglab.predict.tiles.tiling import Area, Block, Tiling, blocks

LEVELS = 254
"""A probability is kept as a whole number of this many parts; 255 is no data."""

IDS, CONFIDENCE, PROBABILITIES = "ids", "confidence", "probabilities"

ROWS = 256
"""Rows that are brought back to the image's size at once."""


class Rows(NamedTuple):
    """Finished rows of the image as the networks see it, from `top` on, by picture."""

    top: int
    pictures: dict[str, np.ndarray]


@dataclass(frozen=True)
class Scene:
    """An image, as it is and as networks see it, and the part of it that is mapped."""

    raster: Raster
    seen: Raster
    area: Area
    tiling: Tiling
    tta: str

    def across(self) -> np.ndarray:
        """The seen column of each column of the map."""
        return nearest(self.area.left, self.area.width, self.raster.width, self.seen.width)

    def down(self) -> np.ndarray:
        """The seen row of each row of the map."""
        return nearest(self.area.top, self.area.height, self.raster.height, self.seen.height)

    def area_seen(self, finished: int = 0) -> Area:
        """Part of the seen image that networks need for the rows of the map from `finished` on."""
        left, right = self.across()[[0, -1]].tolist()
        top, bottom = self.down()[[finished, -1]].tolist()
        return Area(left, top, right - left + 1, bottom - top + 1)

    @property
    def rows_of_tiles(self) -> int:
        area = self.area_seen()
        spans = self.tiling.spans(self.seen.height)
        return sum(span.start < area.top + area.height and span.stop > area.top for span in spans)

    def fill(self, part: Part, nets: Sequence[Network], names: Sequence[str], progress: Callable[[int], None]) -> None:
        """Adds the rows that a part lacks."""
        progress(part.finished * self.area.width)
        if part.finished == self.area.height:
            return
        down = self.down()
        across = self.across() - self.across()[0]
        area = self.area_seen(part.finished)
        found = blocks(nets, self.seen, self.tiling, area, self.tta, scores=len(names) > 1)
        for strip in _strips(found, names):
            stop = int(np.searchsorted(down, strip.top + len(strip.pictures[IDS])))
            before = part.finished
            part.add(self._at_own_size(strip, down[before:stop], across, self.area.top + before))
            progress((stop - before) * self.area.width)

    def _at_own_size(self, strip: Rows, down: np.ndarray, across: np.ndarray, top: int) -> Mapping[str, np.ndarray]:
        if self.seen is self.raster:
            return strip.pictures
        out = {k: np.empty((len(down), len(across), *v.shape[2:]), np.uint8) for k, v in strip.pictures.items()}
        for start in range(0, len(down), ROWS):
            rows = down[start : start + ROWS] - strip.top
            hidden = self.raster.read(top + start, self.area.left, len(rows), len(across)).hidden
            for name, values in strip.pictures.items():
                resized = values[rows][:, across]
                if hidden is not None:
                    resized[hidden] = VOID
                out[name][start : start + ROWS] = resized
        return out


def _strips(found: Iterator[Block], names: Sequence[str]) -> Iterator[Rows]:
    row: list[dict[str, np.ndarray]] = []
    for block in found:
        row.append({name: _picture(block, name) for name in names})
        if block.last:
            yield Rows(block.top, {name: np.concatenate([one[name] for one in row], 1) for name in names})
            row = []


def _picture(block: Block, name: str) -> np.ndarray:
    """`uint8 [h,w]`, or `[h,w,K]` of probabilities; 255 where the image holds nothing."""
    ways: dict[str, Callable[[], Tensor]] = {
        IDS: lambda: block.classes,
        CONFIDENCE: lambda: _whole(block.scores.amax(0)),
        PROBABILITIES: lambda: _whole(block.scores).movedim(0, -1),
    }
    values = np.array(ways[name]().cpu().numpy(), order="C")
    if block.hidden is not None:
        values[block.hidden] = VOID
    return values


def _whole(probability: Tensor) -> Tensor:
    return (probability * LEVELS).round().to(torch.uint8)
