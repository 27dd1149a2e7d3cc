"""Polygons of a map: its connected regions, class by class, as a GeoPackage."""

import warnings
from collections.abc import Mapping, Sequence
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
    ids: Path, path: Path, classes: Sequence[str], grid: Grid | None, simplify: float | None, tags: Mapping[str, str]
) -> None:
    """Writes the regions of a GeoTIFF of class ids; VOID is left out. A stop may leave a part of the file.

    A region's pixels share sides. GDAL follows the whole file row by row: its blocks leave no trace. `simplify`:
    of borders, which neighbours keep in common, in the units of the CRS: the side of a square as large as what one step
    may add or take away. A pixel's side unless given; 0 keeps the pixels' own borders.
    """
    pyogrio = optional("pyogrio", f"{path}: writing a GeoPackage")
    shapely = optional("shapely", f"{path}: writing a GeoPackage")
    path.unlink(missing_ok=True)  # of a process that was killed
    side = abs(_pixel(grid)) ** 0.5
    metres = grid.metres if grid else None
    area = "area_m2" if metres else "area_px"
    fields = np.array(["class", "class_id", area], object)
    names = np.array([*classes], object)
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    try:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": DATE})
        regions = _regions(ids, grid)
        shapes = shapely.coverage_simplify(regions.polygons, side if simplify is None else simplify)
        areas = regions.areas / side**2 * (metres**2 if metres else 1)
        columns = [names[regions.classes], regions.classes.astype(np.int32), areas]
        for start in range(0, max(1, len(shapes)), BATCH):
            part = slice(start, start + BATCH)
            about: dict[str, Any] = {"append": True} if start else {"dataset_metadata": dict(tags)}
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "'crs' was not provided")  # of an image without a place
                pyogrio.raw.write(
                    path, shapely.to_wkb(shapes[part]), [column[part] for column in columns], fields, layer="map",
                    driver="GPKG", geometry_type="Polygon", crs=grid.crs if grid else None, **about,
                )  # fmt: skip
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})


def _pixel(grid: Grid | None) -> float:
    """Area of a pixel in the square of the units of the CRS."""
    if grid is None:
        return 1.0
    a, b, _, d, e, _ = grid.transform
    return a * e - b * d


def _regions(ids: Path, grid: Grid | None) -> Regions:
    """All regions, where the file has them; without a grid the row is minus y, since a GIS draws y upwards."""
    rasterio = optional("rasterio", f"{ids}: polygons of a map")
    features = optional("rasterio.features", f"{ids}: polygons of a map")
    shapely = optional("shapely", f"{ids}: polygons of a map")
    polygons = []
    classes = []
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), rasterio.open(ids) as file:
        for shape, value in features.shapes(rasterio.band(file, 1), connectivity=4):  # placed as the file is
            if int(value) != VOID:
                outer, *holes = shape["coordinates"]
                polygons.append(shapely.Polygon(outer, holes))
                classes.append(int(value))
    found = np.array(polygons, object)
    if grid is None and polygons:
        found = shapely.transform(found, lambda xy: xy * (1, -1))
    return Regions(found, np.array(classes, np.int64), shapely.area(found))
