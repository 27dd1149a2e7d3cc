"""Labels as polygons: read from GeoPackage, GeoJSON or a shapefile, and drawn on the grid of an image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from seglab.data.files.pixels import named
from seglab.data.files.placing import check_kept, moved
from seglab.data.files.rasters import Grid, grid_of, opened
from seglab.data.problems import file_name
from seglab.labels import VOID
from seglab.machine.extras import optional

BEGINNINGS = {".gpkg": b"SQLite format 3\0", ".geojson": b"{", ".json": b"{", ".shp": b"\0\0\x27\x0a"}
"""The first bytes of the files that OGR may open: others could name further files and hosts."""

GEOPACKAGE = {b"GPKG", b"GP10", b"GP11"}
"""Bytes 68 to 71 of an SQLite file that is a GeoPackage."""

DRIVERS = ("GPKG", "GeoJSON", "ESRI Shapefile")

"""Suffixes of the files beside a `.shp` that belong to it."""

POLYGON, MULTIPOLYGON = 3, 6
"""shapely's numbers of these types."""


def is_polygons(path: Path) -> bool:
    """True if a label's suffix is that of a vector file."""
    return path.suffix.lower() in BEGINNINGS


@dataclass(frozen=True, eq=False)
class Polygons:
    """Polygons `[N]` of shapely in the order in which they are drawn, and the class index `uint8 [N]` of each."""

    path: Path
    geometries: np.ndarray
    values: np.ndarray
    crs: str
    """as WKT"""

    def map(
        self, grid: Grid, height: int, width: int, outside: int = VOID, all_touched: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """The index map `uint8 [H,W]` of an image that lies on `grid`, and positions of the polygons that touch it.

        A pixel has the class of the last polygon that its centre is in (`all_touched`: that touches it), else
        `outside`. Polygons are moved to the image's CRS corner by corner. Raises ValueError for a grid without CRS.
        """
        if grid.crs is None:
            raise ValueError("the image has no coordinate system, so that polygons have no place in it")
        features = optional("rasterio.features", "drawing polygons")
        affine = optional("rasterio.transform", "drawing polygons").Affine(*grid.transform)
        with named(self.path):
            found = self.touching(grid, height, width)
            if not len(found):
                return np.full((height, width), outside, np.uint8), found
            placed = self._placed(self.geometries[found], grid.crs)
            check_kept(self.geometries[found], placed, self.crs, grid, height, width)
            shapes = zip(placed, self.values[found].tolist(), strict=True)
            drawn = features.rasterize(
                shapes, (height, width), fill=outside, transform=affine, all_touched=all_touched, dtype="uint8"
            )
            return drawn, found

    def touching(self, grid: Grid, height: int, width: int) -> np.ndarray:
        """Positions, in order, of the polygons that touch an image."""
        assert grid.crs is not None
        shapely = optional("shapely", "drawing polygons")
        edge = shapely.segmentize(shapely.box(0, 0, width, height), max(height, width) / 32)
        a, b, c, d, e, f = grid.transform
        edge = shapely.transform(edge, lambda xy: xy @ np.array([[a, d], [b, e]]) + (c, f))
        edge = shapely.transform(edge, lambda xy: moved(xy, grid.crs, self.crs))
        if not np.isfinite(shapely.bounds(edge)).all():
            raise ValueError("an image beyond what the polygons' coordinate system can hold")
        return np.sort(self._tree.query(edge, predicate="intersects"))

    @cached_property
    def _tree(self) -> Any:
        return optional("shapely", "drawing polygons").STRtree(self.geometries)

    def _placed(self, geometries: np.ndarray, crs: str) -> np.ndarray:
        shapely = optional("shapely", "drawing polygons")
        out = shapely.transform(geometries, lambda xy: moved(xy, self.crs, crs))
        if not np.isfinite(shapely.bounds(out)).all():
            raise ValueError("polygons beyond what the image's coordinate system can hold")
        return out


def read_polygons(
    path: Path, classes: Mapping[str, str], column: str, layer: str | None = None, order: Sequence[str] | None = None
) -> Polygons:
    """The polygons of a file, their classes by name or id in a column, in the file's order or that of class names.

    Raises ValueError that names the file and the reason, and MissingExtra.
    """
    optional("pyogrio", f"{file_name(path)}: reading polygons")
    shapely = optional("shapely", f"{file_name(path)}: reading polygons")
    raw = optional("pyogrio.raw", f"{file_name(path)}: reading polygons")
    with named(path):
        chosen, crs = _layer(path, layer, column)
        _, numbers, encoded, fields = raw.read(
            str(path.absolute()), layer=chosen, columns=[column], return_fids=True, force_2d=True
        )
        position = np.argsort(numbers, kind="stable")  # an index in the file may give them in another order
        geometries = shapely.from_wkb(encoded[position])
        values = _indices(fields[0][position], numbers[position], classes, column)
        _check(geometries, numbers[position])
        if order is not None:
            rank = _ranks(order, classes)
            drawn = np.argsort(rank[values], kind="stable")
            geometries, values = geometries[drawn], values[drawn]
        return Polygons(path, geometries, values, crs)


def any_touches(path: Path, layer: str | None, images: Sequence[Path]) -> bool:
    """True if the rectangle around a file's polygons touches one of the georeferenced images, or there are none.

    Raises ValueError that names the file and the reason.
    """
    shapely = optional("shapely", f"{file_name(path)}: reading polygons")
    pyogrio = optional("pyogrio", f"{file_name(path)}: reading polygons")
    with named(path):
        chosen, crs = _layer(path, layer)
        bounds = pyogrio.read_info(str(path.absolute()), layer=chosen, force_total_bounds=True)["total_bounds"]
        around = Polygons(path, np.array([shapely.box(*bounds)]), np.zeros(1, np.uint8), crs)
    georeferenced = False
    for image in images:
        try:
            with opened(image) as source:
                grid = grid_of(source)
                size = (source.height, source.width)
        except ValueError:
            continue  # which reading its pixels says
        if grid is not None and grid.crs is not None:
            georeferenced = True
            with named(path):
                touches = len(around.touching(grid, *size)) > 0
            if touches:
                return True
    return not georeferenced


def _layer(path: Path, layer: str | None, column: str | None = None) -> tuple[str, str]:
    """Name and CRS, as WKT, of the layer to read. Raises ValueError."""
    check_beginning(path)
    pyogrio = optional("pyogrio", "polygons")
    name = str(path.absolute())
    layers = [str(title) for title, kind in pyogrio.list_layers(name) if kind is not None]
    if layer is None and len(layers) != 1:
        named_by = "data.reader.layer, or --layer of seglab crop, must name one"
        raise ValueError(f"{len(layers)} layers ({', '.join(layers)}): {named_by}")
    if layer is not None and layer not in layers:
        raise ValueError(f"no layer {layer!r}: accepted are {', '.join(layers)}")
    info = pyogrio.read_info(name, layer=layer or layers[0])
    if info["driver"] not in DRIVERS:
        raise ValueError(f"a file of the format {info['driver']}: accepted are GeoPackage, GeoJSON and shapefiles")
    if column is not None and column not in info["fields"]:
        raise ValueError(
            f"no column {column!r}: data.reader.class_column, or --class-column of seglab crop, must name one of "
            f"{', '.join(map(str, info['fields']))}"
        )
    if info["crs"] is None:
        raise ValueError("polygons without a coordinate system: accepted are a GeoPackage or GeoJSON, or .shp and .prj")
    crs = optional("rasterio.crs", "polygons").CRS.from_user_input(info["crs"])
    return layer or layers[0], crs.to_wkt()


def check_beginning(path: Path) -> None:
    """Raises ValueError unless a file begins as its suffix says."""
    with path.open("rb") as file:
        head = file.read(4096)
    begins = head.removeprefix(b"\xef\xbb\xbf").lstrip() if path.suffix.lower() in (".geojson", ".json") else head
    suffix = path.suffix.lower()
    if not begins.startswith(BEGINNINGS[suffix]) or (suffix == ".gpkg" and head[68:72] not in GEOPACKAGE):
        kind = {".gpkg": "GeoPackage", ".shp": "shapefile"}.get(suffix, "GeoJSON")
        raise ValueError(f"not a {kind}, as its suffix says" if head else "an empty file (0 bytes)")


def _indices(values: np.ndarray, numbers: np.ndarray, classes: Mapping[str, str], column: str) -> np.ndarray:
    """The class index `uint8 [N]` of each value of a column. Raises ValueError."""
    known: dict[Any, int] = {"void": VOID} | {name: i for i, name in enumerate(classes)}
    accepted = f"accepted are {', '.join(classes)} and void"
    if values.dtype.kind in "iuf":
        known = {i: i for i in (*range(len(classes)), VOID)}
        accepted = f"accepted are 0..{len(classes) - 1} and {VOID} (void), or class names"
    unique, inverse = _unique(values)
    wrong = [value for value in unique if value not in known]
    if wrong:
        first = numbers[[unique[i] in wrong for i in inverse]][0]
        shown = ", ".join("no value" if v is None or v != v else repr(v) for v in wrong[:5])
        raise ValueError(f"{column} of feature {first} is no class ({shown}); {accepted}")
    return np.array([known[value] for value in unique], np.uint8)[inverse]


def _unique(values: np.ndarray) -> tuple[list[Any], list[int]]:
    """The different values in the order of their appearance, and the position of each value among them."""
    seen: dict[Any, int] = {}
    inverse = [seen.setdefault(value, len(seen)) for value in values.tolist()]
    return list(seen), inverse


def _check(geometries: np.ndarray, numbers: np.ndarray) -> None:
    """Raises ValueError for the first geometry that is no valid polygon."""
    shapely = optional("shapely", "polygons")
    kinds = shapely.get_type_id(geometries)
    for wrong, words in (
        (shapely.is_missing(geometries) | shapely.is_empty(geometries), "is empty"),
        (~np.isin(kinds, (POLYGON, MULTIPOLYGON)), "is no polygon"),
        (~shapely.is_valid(geometries), "is not valid"),
    ):
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            geometry = geometries[first]
            why = f": {shapely.is_valid_reason(geometry)}" if words == "is not valid" else ""
            more = f", and {wrong.sum() - 1} more" if wrong.sum() > 1 else ""
            repair = "; ogr2ogr -makevalid repairs such polygons" if why else "; accepted are polygons"
            raise ValueError(f"the geometry of feature {numbers[first]} {words}{why}{more}{repair}")


def check_order(order: Sequence[str] | None, classes: Mapping[str, str]) -> None:
    """Raises ValueError unless an order of drawing, where given, names every class, and perhaps void, once."""
    if order is None:
        return
    if len(set(order)) < len(order) or not set(classes) <= set(order) <= {*classes, "void"}:
        accepted = f"accepted is null, or each of {', '.join(classes)} once, and perhaps void"
        raise ValueError(f"data.reader.order={list(order)}: {accepted}")


def _ranks(order: Sequence[str], classes: Mapping[str, str]) -> np.ndarray:
    """The place of each class index `[256]` in an order of names; VOID is first unless it is named."""
    ranks = np.full(VOID + 1, -1)
    for i, name in enumerate(classes):
        ranks[i] = list(order).index(name)
    ranks[VOID] = list(order).index("void") if "void" in order else -1
    return ranks
