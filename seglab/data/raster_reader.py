"""The reader of rasters: images of any bands and types, labels as rasters or polygons."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock

import numpy as np

from seglab.data.files.beside import BESIDE, beside
from seglab.data.files.listing import RASTERS, images_by_name, natural
from seglab.data.files.pixels import Pixels, named
from seglab.data.files.polygons import (
    BEGINNINGS,
    Polygons,
    any_touches,
    check_order,
    is_polygons,
    read_polygons,
)
from seglab.data.files.raster_labels import check_grids, read_raster_label
from seglab.data.files.rasters import Grid, grid_of, metres, open_raster, opened
from seglab.data.files.scenes import read_scenes
from seglab.data.folder import FolderReader, Pair, covered
from seglab.data.problems import file_name
from seglab.labels import VOID
from seglab.machine.extras import optional

NEEDS = "data=raster"

STRIP = 512
"""Rows of a strip: those of the usual tiles of a GeoTIFF, so that each is decoded once."""

READING = Lock()
"""Held while a file of polygons for all images is read: once, however many threads ask for it."""


class RasterReader(FolderReader):
    """Reads bands of rasters in their own type, and labels that are rasters or polygons.

    `bands` count from 1. A label is a raster of class ids (or of the colours of `palette`), or a vector file of the
    same name as its image; `polygons` is the path, below the root, of one vector file for all images instead. Polygons
    have their class, by name or id, in `class_column`, and are drawn in the order of the file, or of the names in
    `order`, the last on top. `outside` is the class, or void, of pixels in no polygon. `all_touched` gives a polygon
    every pixel that it touches; else those whose centre it holds.
    """

    def __init__(
        self,
        bands: list[int],
        palette: dict[str, str] | None = None,
        polygons: str | None = None,
        layer: str | None = None,
        class_column: str = "class",
        outside: str | None = None,
        order: list[str] | None = None,
        all_touched: bool = False,
        image_folder: str = "data",
        label_folder: str = "label",
    ):
        super().__init__(palette, image_folder, label_folder)
        self.bands = list(bands)  # type: ignore[misc]
        self.polygons = polygons
        self.layer = layer
        self.class_column = class_column
        self.outside = outside
        self.order = order
        self.all_touched = all_touched
        self._read: tuple[object, Polygons] | None = None

    def check(self, classes: Mapping[str, str]) -> None:
        """Raises ValueError, one line, where the settings do not fit the classes, and MissingExtra."""
        for module in ("rasterio", "pyogrio", "shapely"):
            optional(module, NEEDS)
        super().check(classes)
        check_order(self.order, classes)
        path = Path(self.polygons or "none.gpkg")
        if path.is_absolute() or ".." in path.parts or not is_polygons(path):
            accepted = f"a path below the root that ends in {', '.join(BEGINNINGS)}"
            raise ValueError(f"data.reader.polygons={self.polygons!r}: accepted is {accepted}")
        if self.outside is not None or self.polygons is not None:
            self._outside(classes)

    def _outside(self, classes: Mapping[str, str]) -> int:
        accepted = f"accepted are {', '.join(classes)} and void"
        if self.outside is None:
            raise ValueError(f"data.reader.outside=null, which must say what pixels in no polygon are: {accepted}")
        if self.outside not in (*classes, "void"):
            raise ValueError(f"data.reader.outside={self.outside!r}: {accepted}")
        return VOID if self.outside == "void" else list(classes).index(self.outside)

    def pairs(self, root: Path) -> tuple[list[Pair], list[str]]:
        """All pairs in natural order of their names, and every problem found: one line each."""
        problems: list[str] = []
        images = images_by_name(root / self.image_folder, problems, RASTERS, BESIDE)
        if self.polygons is None:
            kinds = (*RASTERS, *BEGINNINGS)
            labels = images_by_name(root / self.label_folder, problems, kinds, BESIDE)
            paired = self._paired(images, labels, problems)
        else:
            shared = root / self.polygons
            paired = {name: (image, shared) for name, image in images.items() if image}
            problems += self._of_no_image(shared, [image for image, _ in paired.values()])
            if not shared.is_file():
                return [], problems
        names = sorted(paired, key=natural)
        scenes = read_scenes(root / "scenes.csv", names, problems)
        found = beside(file for files in paired.values() for file in files)
        pairs = [Pair(n, i, label, scenes.get(n), found[i] + found[label]) for n in names for i, label in [paired[n]]]
        return pairs, sorted(problems, key=natural)

    def _of_no_image(self, shared: Path, images: Sequence[Path]) -> list[str]:
        """A problem of the one file of polygons: where it can't be read, or lies beside all images."""
        try:
            if not any_touches(shared, self.layer, images):
                return [f"{file_name(shared)}: its polygons touch no image of {self.image_folder}/"]
        except (ValueError, OSError) as e:
            return [str(e)]
        return []

    def extent(self, pair: Pair) -> tuple[int, int]:
        try:
            with open_raster(pair.image, self.bands) as raster:
                return raster.height * raster.width, raster.bands * raster.dtype.itemsize + 1
        except ValueError:  # which reading the pixels says again
            return 0, 0

    def metres(self, pair: Pair) -> float | None:
        return metres(pair.image)

    def image(self, pair: Pair) -> Pixels:
        """The bands of a pair. Raises ValueError that names the file and the reason."""
        with open_raster(pair.image, self.bands) as raster:
            return raster.read(0, 0, raster.height, raster.width)

    def strips(self, pair: Pair, classes: Mapping[str, str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        with open_raster(pair.image, self.bands) as raster:
            mask = self.mask(pair, self.label(pair, classes), classes)
            for top in range(0, raster.height, STRIP):
                part = raster.read(top, 0, min(STRIP, raster.height - top), raster.width)
                yield part.values, covered(mask[top : top + STRIP], part)

    def whole_only(self, pairs: Sequence[Pair]) -> str | None:
        return "labels that are polygons are drawn whole" if any(is_polygons(pair.label) for pair in pairs) else None

    def window(
        self, pair: Pair, classes: Mapping[str, str], rows: slice, columns: slice
    ) -> tuple[np.ndarray, np.ndarray]:
        if is_polygons(pair.label):
            return super().window(pair, classes, rows, columns)
        window = ((rows.start, rows.stop), (columns.start, columns.stop))
        with open_raster(pair.image, self.bands) as raster:
            part = raster.read(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
        label = read_raster_label(pair.label, classes, bool(self.palette), window)
        return part.values, covered(self.mask(pair, label, classes), part)

    def label(self, pair: Pair, classes: Mapping[str, str]) -> np.ndarray:
        """Ids or colours of the label's file, or the index map of polygons. Raises ValueError that names the file."""
        with opened(pair.image) as source:
            grid = grid_of(source)
            size = (source.height, source.width)
        if is_polygons(pair.label):
            return self._drawn(pair, classes, grid, *size)
        check_grids(pair, grid, *size)
        return read_raster_label(pair.label, classes, bool(self.palette))

    def mask(self, pair: Pair, label: np.ndarray, classes: Mapping[str, str]) -> np.ndarray:
        return label if is_polygons(pair.label) else super().mask(pair, label, classes)

    def _drawn(self, pair: Pair, classes: Mapping[str, str], grid: Grid | None, height: int, width: int) -> np.ndarray:
        with named(pair.label):
            outside = self._outside(classes)
        polygons = self.polygons_of(pair, classes)
        if grid is None or grid.crs is None:
            raise ValueError(
                f"{file_name(pair.image)}: no coordinate system, so that the polygons of {file_name(pair.label)} have "
                "no place in it; accepted are georeferenced images (gdal_edit.py -a_srs EPSG:...)"
            )
        drawn, found = polygons.map(grid, height, width, outside, self.all_touched)
        if not len(found) and self.polygons is None:
            label = file_name(pair.label)
            raise ValueError(f"{label}: none of its {len(polygons.values)} polygons touches {file_name(pair.image)}")
        return drawn

    def polygons_of(self, pair: Pair, classes: Mapping[str, str]) -> Polygons:
        """The polygons of a pair's label; of one file for all images they are read once."""
        settings = (classes, self.class_column, self.layer, self.order)
        if self.polygons is None:
            return read_polygons(pair.label, *settings)
        with READING:
            facts = (pair.label, pair.label.stat().st_mtime_ns, settings)
            if self._read is None or self._read[0] != facts:
                self._read = facts, read_polygons(pair.label, *settings)
            return self._read[1]
