"""Large scenes cut into the crops that a training reads: by slicing, so that no value changes."""

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from seglab.data.crops.opening import open_slices
from seglab.data.crops.polygons import UNDRAWN, Drawing, Drawn
from seglab.data.crops.record import begin, facts, give_up
from seglab.data.crops.scenes import Scene
from seglab.data.crops.slices import Slices, Voids
from seglab.data.files.pixels import named
from seglab.data.files.polygons import Polygons, is_polygons
from seglab.data.files.raster_labels import grid_words, same_grid
from seglab.data.problems import DataError, file_name
from seglab.machine.files import replacing, write_whole

DROP, SHIFT, KEEP = EDGES = ("drop", "shift", "keep")
"""Crops that would go beyond the scene: left out, as the original did; moved back to its border; cut at it."""

FOLDERS = ("data", "label")
COLUMNS = ("name", "scene", "top", "left", "height", "width")

BLOCK = 2**28
"""Bytes of a scene that are read at once, at most: whole rows of crops of a scene of 40,000 pixels with 3 bands."""


@dataclass(frozen=True)
class Cut:
    """How scenes are cut. `drop_empty`: the share of void pixels from which a crop is left out; None keeps all."""

    size: int = 1024
    stride: int | None = None
    edge: str = DROP
    drop_empty: float | None = None
    voids: Voids = ()
    drawing: Drawing = UNDRAWN
    """of labels that are polygons"""

    def starts(self, length: int) -> list[int]:
        """Where crops begin along a side of this length."""
        stride = self.stride or self.size
        if self.edge == DROP:
            return [*range(0, length - self.size + 1, stride)]
        out = [0]
        while out[-1] + self.size < length and out[-1] + stride < length:
            out.append(out[-1] + stride)
        if self.edge == SHIFT:
            out = [min(start, max(0, length - self.size)) for start in out]
        return out


class Row(NamedTuple):
    """A line of scenes.csv: the window of a scene that a crop shows."""

    name: str
    scene: str
    top: int
    left: int
    height: int
    width: int


@dataclass
class Done:
    """The crops of a root, and how many windows were left out as empty."""

    rows: list[Row] = field(default_factory=list)
    dropped: int = 0
    before: bool = False
    """all of it was there already"""


def crop_scenes(scenes: Sequence[Scene], out: Path, cut: Cut, tick: Callable[[int, int], object]) -> Done:
    """Cuts scenes into `out/data`, `out/label` and `out/scenes.csv`; crops that an earlier call wrote are kept.

    `tick(windows, of)` is called as windows are done. Raises ValueError, and DataError before anything is written.
    """
    sizes = _checked(scenes, cut)
    if _begin(scenes, out, cut):
        return Done(_read(out / "scenes.csv"), before=True)
    done = Done()
    total = sum(len(cut.starts(h)) * len(cut.starts(w)) for h, w in sizes)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for scene in scenes:
            for row in _cut(scene, out, cut, pool):
                tick(1, total)
                if row:
                    done.rows.append(row)
                else:
                    done.dropped += 1
    if not done.rows:
        give_up(out, FOLDERS)
        raise ValueError(f"--drop-empty {cut.drop_empty:g}: leaves none of {total} crops; accepted is a larger share")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *done.rows])
    write_whole(out / "scenes.csv", text.getvalue())
    return done


def _checked(scenes: Sequence[Scene], cut: Cut) -> list[tuple[int, int]]:
    """Height and width of each scene. Raises DataError with every scene that can't be cut."""
    sizes: list[tuple[int, int]] = []
    problems: list[str] = []
    for scene in scenes:
        try:
            with _open(scene, cut) as (image, _):
                sizes.append((image.height, image.width))
        except ValueError as e:
            problems.append(str(e))
    if problems:
        raise DataError(scenes[0].image.parent, problems)
    if not any(cut.starts(h) and cut.starts(w) for h, w in sizes):
        h, w = max(sizes)
        raise ValueError(f"--size {cut.size}: no scene is as large ({w}x{h}); accepted is less, or --edge {KEEP}")
    return sizes


@contextmanager
def _open(scene: Scene, cut: Cut) -> Iterator[tuple[Slices, Slices]]:
    """A scene and its label. Raises ValueError where they do not cover each other."""
    with open_slices(scene.image) as image:
        if is_polygons(scene.label):
            polygons = _polygons(scene.label, cut.drawing)
            with named(scene.image):
                drawn = Drawn(polygons, cut.drawing, image.grid, image.height, image.width)
            yield image, drawn
            return
        with open_slices(scene.label, label=True) as label:
            _check_same(scene, image, label)
            yield image, label


@lru_cache(1)  # one file may hold the polygons of all scenes
def _polygons(path: Path, drawing: Drawing) -> Polygons:
    return drawing.polygons(path)


def _check_same(scene: Scene, image: Slices, label: Slices) -> None:
    if (image.height, image.width) != (label.height, label.width):
        raise ValueError(
            f"{file_name(scene.image)}: the scene is {image.width}x{image.height}, "
            f"its label {file_name(scene.label)} {label.width}x{label.height}: accepted are equal sizes"
        )
    if image.grid and label.grid and not same_grid(image.grid, label.grid, image.height, image.width):
        raise ValueError(
            f"{file_name(scene.image)}: the scene is{grid_words(image.grid)}, its label {file_name(scene.label)}"
            f"{grid_words(label.grid)}: accepted is one grid"
        )


def _begin(scenes: Sequence[Scene], out: Path, cut: Cut) -> bool:
    """Makes the root, or finds it as the same command left it; true if nothing is left to do. Raises ValueError."""
    files = {s.name: {"group": s.group, "image": facts(s.image), "label": facts(s.label)} for s in scenes}
    begin(out, {"settings": asdict(cut), "scenes": files}, FOLDERS)
    return (out / "scenes.csv").exists() and all(_written(out, row.name) for row in _read(out / "scenes.csv"))


def _read(table: Path) -> list[Row]:
    with table.open(newline="") as file:
        return [Row(name, scene, *map(int, place)) for name, scene, *place in list(csv.reader(file))[1:]]


def _written(out: Path, name: str) -> bool:
    return all(any((out / folder / f"{name}{s}").exists() for s in (".png", ".tif")) for folder in FOLDERS)


def _cut(scene: Scene, out: Path, cut: Cut, pool: ThreadPoolExecutor) -> Iterator[Row | None]:
    """The row of each window of a scene, None where it is left out as empty."""
    with _open(scene, cut) as (image, label):
        lefts = cut.starts(image.width)
        for r, top in enumerate(cut.starts(image.height)):
            height = min(cut.size, image.height - top)
            for columns in _together(lefts, cut.size, height * image.bytes_a_pixel):
                places = [(lefts[c], height, min(cut.size, image.width - lefts[c])) for c in columns]
                names = [f"{scene.name}_{r}_{c}" for c in columns]
                rows = [Row(name, scene.group, top, *place) for name, place in zip(names, places, strict=True)]
                yield from _block(rows, image, label, out, cut, pool)


def _together(lefts: Sequence[int], size: int, bytes_a_column: int) -> Iterator[list[int]]:
    """Positions of windows of one row that are read as one block, which is the whole row unless it is too large."""
    block: list[int] = []
    for c, left in enumerate(lefts):
        if block and (left + size - lefts[block[0]]) * bytes_a_column > BLOCK:
            yield block
            block = []
        block.append(c)
    if block:
        yield block


def _block(
    rows: list[Row], image: Slices, label: Slices, out: Path, cut: Cut, pool: ThreadPoolExecutor
) -> Iterator[Row | None]:
    """Writes the crops of windows side by side that are not there yet."""
    missing = [row for row in rows if not _written(out, row.name)]
    if not missing:
        yield from rows
        return
    first, last = rows[0], rows[-1]
    window = (first.top, first.left, first.height, last.left + last.width - first.left)
    blocks = (image.read(*window), label.read(*window))

    def crop(row: Row) -> list[bytes] | None:
        pixels, ids = (s.part(b, row.left - first.left, row.width) for s, b in zip((image, label), blocks, strict=True))
        if cut.drop_empty is not None and (image.empty(pixels) | label.void(ids, cut.voids)).mean() >= cut.drop_empty:
            return None
        return [s.encoded(part, row.top, row.left) for s, part in ((image, pixels), (label, ids))]

    crops = pool.map(crop, missing)
    for row in rows:
        if row not in missing:
            yield row
        elif (contents := next(crops)) is None:
            yield None
        else:
            for slices, folder, content in zip((image, label), FOLDERS, contents, strict=True):
                with replacing(out / folder / f"{row.name}{slices.suffix}") as file:
                    file.write(content)
            yield row
