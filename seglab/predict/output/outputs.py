"""The files of a map: class ids, coloured picture, confidence, probabilities and polygons."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from seglab.data.files.rasters import Grid
from seglab.labels import VOID, rgb
from seglab.machine.extras import optional
from seglab.predict.output.files import MARK
from seglab.predict.output.geotiff import Picture, write_geotiff
from seglab.predict.output.pictures import write_png
from seglab.predict.output.resume import Part
from seglab.predict.output.resume import Rows as Kept
from seglab.predict.output.vector import write_vector
from seglab.predict.tiles.scene import CONFIDENCE, IDS, LEVELS, PROBABILITIES

COLOR, VECTOR = "color", "vector"
SUFFIXES = {IDS: "", COLOR: "_color", CONFIDENCE: "_confidence", PROBABILITIES: "_probabilities", VECTOR: ""}


@dataclass(frozen=True)
class Wanted:
    """The files that are wanted of each map, besides class ids and their coloured picture."""

    confidence: bool = False
    probabilities: bool = False
    vector: bool = False
    simplify: float | None = None

    @property
    def kinds(self) -> list[str]:
        asked = {CONFIDENCE: self.confidence, PROBABILITIES: self.probabilities, VECTOR: self.vector}
        return [IDS, COLOR, *(kind for kind, wanted in asked.items() if wanted)]

    def check(self) -> None:
        """Raises MissingExtra for a file that needs a library which is not there: before hours are spent on a map."""
        for option, wanted, modules in (
            ("--vector", self.vector, ("rasterio", "pyogrio", "shapely")),
            ("--probabilities", self.probabilities, ("rasterio",)),
        ):
            for module in modules if wanted else ():
                optional(module, option)

    def files(self, out: Path, stem: str, georeferenced: bool) -> dict[str, Path]:
        """The path of each kind of file. A PNG has no place for a probability of each class, nor for a georeference."""
        suffix = ".tif" if georeferenced else ".png"
        special = {PROBABILITIES: ".tif", VECTOR: ".gpkg"}
        return {kind: out / f"{stem}{SUFFIXES[kind]}{special.get(kind, suffix)}" for kind in self.kinds}


@dataclass(frozen=True)
class Sheet:
    """Size, place and legend of a map."""

    height: int
    width: int
    grid: Grid | None
    classes: Mapping[str, str]
    run: str
    facts: Mapping[str, str]

    @property
    def tags(self) -> dict[str, str]:
        names = ", ".join(f"{i}={name}" for i, name in enumerate(self.classes))
        return {MARK: self.run, **self.facts, "classes": f"{names}, {VOID}=void"}


def write_outputs(part: Part, sheet: Sheet, files: Mapping[str, Path], wanted: Wanted, room: Path) -> None:
    """Writes all files of a map into the folder `room`, from where they take their names together: they are of one map,
    whatever another process writes beside them.
    """
    made = {kind: room / f"{kind}{path.suffix}" for kind, path in files.items()}
    for kind, path in files.items():
        if kind == VECTOR:
            write_vector(made[IDS], made[kind], list(sheet.classes), sheet.grid, wanted.simplify, sheet.tags)
        elif path.suffix == ".tif":
            write_geotiff(_picture(kind, part, sheet), made[kind], path)
        else:
            picture = _picture(kind, part, sheet, alpha=False)
            rows = (np.moveaxis(values, 0, -1) for _, values in picture.parts())
            write_png(made[kind], (sheet.height, sheet.width), picture.bands, rows, {MARK: sheet.run})
    for kind, path in files.items():
        made[kind].replace(path)


def _picture(kind: str, part: Part, sheet: Sheet, alpha: bool = True) -> Picture:
    of_map = partial(Picture, height=sheet.height, width=sheet.width, grid=sheet.grid)
    shown = [rgb(color) for color in sheet.classes.values()]
    if kind == IDS:
        colors = {i: (*color, 255) for i, color in enumerate(shown)} | {VOID: (0, 0, 0, 0)}
        ids = part.pictures[IDS]
        return of_map(ids, bands=1, tags=sheet.tags, overviews="MODE", nodata=VOID, colors=colors)
    if kind == COLOR:
        kinds = ("red", "green", "blue", "alpha")
        rows = Colored(part.pictures[IDS], shown, alpha)
        return of_map(rows, bands=3 + alpha, tags={MARK: sheet.run}, kinds=kinds[: 3 + alpha], level=1)
    names = list(sheet.classes) if kind == PROBABILITIES else ["the probability of the class"]
    tags = sheet.tags | {"unit": f"1/{LEVELS} of a probability"}
    scale = 1 / LEVELS
    return of_map(part.pictures[kind], bands=len(names), tags=tags, nodata=VOID, names=names, scale=scale)


class Colored:
    """Rows `uint8 [h,W,3]`, or with alpha `[h,W,4]`, of the colours of class ids."""

    def __init__(self, ids: Kept, colors: list[tuple[int, int, int]], alpha: bool):
        self._ids = ids
        self._table = np.zeros((256, 3 + alpha), np.uint8)
        self._table[: len(colors), :3] = colors
        self._table[: len(colors), 3:] = 255

    def read(self, start: int, stop: int) -> np.ndarray:
        return self._table.take(self._ids.read(start, stop), 0)
