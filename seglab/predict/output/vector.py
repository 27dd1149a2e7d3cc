"""Polygons of a map: its connected regions, class by class, as a GeoPackage."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seglab.data.files.rasters import CACHE_BYTES, Grid
from seglab.labels import VOID
from seglab.machine.extras import optional

BATCH = 20_000
"""Polygons that are written at once."""

DATE = "2000-01-01T00:00:00Z"
"""The date of change that a GeoPackage tells: the same map gives the same file."""


class Regions(NamedTuple):
    """Polygons as shapely's, and their class and area before they are simplified."""

    polygons: np.ndarray
    classes: np.ndarray
    areas: np.ndarray


def write_vector(
    ids: Path,
    path: Path,
    classes: Sequence[str],
    grid: Grid | None,
    simplify: float | None,
    tags: Mapping[str, str],
    room: Path,
) -> None:
    """Writes the regions of a GeoTIFF of class ids, by way of a file in the folder `room`; VOID is left out.

    A region's pixels share sides. GDAL follows the whole file row by row: its blocks leave no trace. `simplify`: how
    far, in the units of the CRS, a border may move; a pixel's side unless given, and 0 keeps the pixels' own borders.
    """
    pyogrio = optional("pyogrio", f"{path}: writing a GeoPackage")
    shapely = optional("shapely", f"{path}: writing a GeoPackage")
    making = room / "map.gpkg"
    making.unlink(missing_ok=True)  # of a process that was killed
    path.parent.mkdir(parents=True, exist_ok=True)
    side = abs(_pixel(grid)) ** 0.5
    metres = grid.metres if grid else None
    area = "area_m2" if metres else "area_px"
    fields = np.array(["class", "class_id", area], object)
    names = np.array([*classes], object)
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    try:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": DATE})
        for i, regions in enumerate(_batches(shapely, ids, grid)):
            areas = regions.areas / side**2 * (metres**2 if metres else 1)
            shapes = shapely.simplify(regions.polygons, side if simplify is None else simplify)
            columns = [names[regions.classes], regions.classes.astype(np.int32), areas]
            about: dict[str, Any] = {"dataset_metadata": dict(tags)} if i == 0 else {"append": True}
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "'crs' was not provided")  # of an image without a place
                pyogrio.raw.write(
                    making, shapely.to_wkb(shapes), columns, fields, layer="map", driver="GPKG",
                    geometry_type="Polygon", crs=grid.crs if grid else None, **about,
                )  # fmt: skip
        making.replace(path)
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})
        making.unlink(missing_ok=True)


def _pixel(grid: Grid | None) -> float:
    """Area of a pixel in the square of the units of the CRS."""
    if grid is None:
        return 1.0
    a, b, _, d, e, _ = grid.transform
    return a * e - b * d


def _batches(shapely: Any, ids: Path, grid: Grid | None) -> Iterator[Regions]:
    """The regions, some at a time; once none where there is none, so that a file is made."""
    rasterio = optional("rasterio", f"{ids}: polygons of a map")
    features = optional("rasterio.features", f"{ids}: polygons of a map")
    found: list[tuple[Any, int]] = []
    first = True
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), rasterio.open(ids) as file:
        for shape, value in features.shapes(rasterio.band(file, 1), connectivity=4):  # placed as the file is
            if int(value) != VOID:
                rings = shape["coordinates"]
                found.append((shapely.Polygon(rings[0], rings[1:]), int(value)))
            if len(found) == BATCH:
                yield _regions(shapely, found, upside_down=grid is None)
                found = []
                first = False
    if found or first:
        yield _regions(shapely, found, upside_down=grid is None)


def _regions(shapely: Any, found: Sequence[tuple[Any, int]], upside_down: bool) -> Regions:
    """`upside_down`: y is the row, which a GIS would draw upwards."""
    polygons = np.array([polygon for polygon, _ in found], object)
    if upside_down:
        polygons = shapely.transform(polygons, lambda xy: xy * (1, -1))
    return Regions(polygons, np.array([value for _, value in found], np.int64), shapely.area(polygons))
