"""Labels that are polygons, drawn part by part on the grid of a scene."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from seglab.data.crops.slices import Voids, as_png, void_pixels
from seglab.data.files.polygons import Polygons, read_polygons
from seglab.data.files.rasters import Grid
from seglab.data.problems import file_name
from seglab.labels import VOID


@dataclass(frozen=True)
class Drawing:
    """How polygons become class ids: `classes` in the order of their ids, `outside` the class, or void, of the rest."""

    classes: Sequence[str] = ()
    column: str = "class"
    layer: str | None = None
    outside: str | None = None
    all_touched: bool = False

    def polygons(self, path: Path) -> Polygons:
        """The polygons of a file. Raises ValueError."""
        if not self.classes:
            raise ValueError(f"{file_name(path)}: polygons need --classes, the names in the order of data.classes")
        return read_polygons(path, dict.fromkeys(self.classes, ""), self.column, self.layer)

    @property
    def rest(self) -> int:
        """The id of pixels in no polygon. Raises ValueError."""
        if self.outside not in (*self.classes, "void"):
            raise ValueError(
                f"--outside {self.outside or 'is missing'}: polygons need it for what is in none; "
                f"accepted are {', '.join(self.classes)} and void"
            )
        return VOID if self.outside == "void" else list(self.classes).index(self.outside or "")


UNDRAWN = Drawing()


class Drawn:
    """Class ids `uint8 [h,w]` of polygons, on the grid of a scene."""

    bytes_a_pixel = 1
    suffix = ".png"

    def __init__(self, polygons: Polygons, drawing: Drawing, grid: Grid | None, height: int, width: int):
        if grid is None or grid.crs is None:
            raise ValueError(
                "no coordinate system, so that polygons have no place in it; accepted is a georeferenced scene"
            )
        self.polygons = polygons
        self.drawing = drawing
        self.grid: Grid | None = grid
        self.height, self.width = height, width
        self._place = grid
        self.rest = drawing.rest
        if not len(polygons.touching(grid, height, width)):
            raise ValueError(f"none of the {len(polygons.values)} polygons of {file_name(polygons.path)} touches it")

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        window = self._place.window(top, left)
        return self.polygons.map(window, height, width, self.rest, self.drawing.all_touched)[0]

    def part(self, block: np.ndarray, left: int, width: int) -> np.ndarray:
        return block[:, left : left + width]

    def encoded(self, block: np.ndarray, top: int, left: int) -> bytes:
        return as_png(Image.fromarray(np.ascontiguousarray(block)))

    def empty(self, block: np.ndarray) -> np.ndarray:
        return np.zeros(block.shape, bool)

    def void(self, block: np.ndarray, voids: Voids) -> np.ndarray:
        return void_pixels(block[..., None], voids)
