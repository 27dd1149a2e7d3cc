"""Georeferenced scenes with polygons as labels, drawn to try the way from rasters to a map in a GIS."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seglab.data.files.rasters import Grid
from seglab.data.problems import file_name
from seglab.data.synthetic import draw_scene
from seglab.machine.extras import optional
from seglab.machine.files import replacing

METRES = 0.5
"""Side of a pixel."""

CORNER = (500_000.0, 2_780_000.0)
"""Easting and northing of the first scene in UTM zone 40 N; each further one lies to the east of the one before."""

EPSG = 32640


def write_example(out: Path, classes: Sequence[str], scenes: int = 5, side: int = 768, seed: int = 0) -> list[Path]:
    """Writes `scenes/<n>.tif` and `labels/<n>.gpkg`, and `new.tif` that has no label; gives the paths of the images.

    Each image is RGB of 8 bits, `side` x `side` pixels, with a corner that is no data (0). A label holds a polygon for
    each region of a class but the first, its name in the column `class`. Raises ValueError for a folder with files.
    """
    rasterio = optional("rasterio", "seglab example")
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out}: holds files already; accepted is a folder that is empty or not there")
    images = []
    drawn = [i for i in range(2 * scenes + 2) if i % 4 != 3]  # those of one in four have no water
    for scene in range(scenes + 1):
        path = out / "new.tif" if scene == scenes else out / "scenes" / f"{scene + 1}.tif"
        image, label = draw_scene(seed, drawn[scene], side, side)
        image, label = _with_corner(image, label)
        easting = CORNER[0] + scene * 2 * side * METRES
        grid = Grid((METRES, 0.0, easting, 0.0, -METRES, CORNER[1]), rasterio.crs.CRS.from_epsg(EPSG).to_wkt())
        _write_image(path, image, grid)
        if scene < scenes:
            _write_polygons(out / "labels" / f"{scene + 1}.gpkg", label, grid, classes)
        images.append(path)
    return images


def _with_corner(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with an upper left corner in which the image holds nothing."""
    rows, columns = np.indices(label.shape)
    empty = rows + columns < label.shape[0] // 4
    return np.where(empty[..., None], np.uint8(0), np.maximum(image, 1)), np.where(empty, np.uint8(0), label)


def _write_image(path: Path, image: np.ndarray, grid: Grid) -> None:
    rasterio = optional("rasterio", file_name(path))
    height, width, bands = image.shape
    shape = {"height": height, "width": width, "count": bands, "dtype": image.dtype, "nodata": 0}
    place = {"crs": grid.crs, "transform": rasterio.Affine(*grid.transform)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", compress="deflate", tiled=True, **shape, **place) as file:
            file.write(np.moveaxis(image, -1, 0))
        with replacing(path) as f:
            f.write(memory.read())


def _write_polygons(path: Path, label: np.ndarray, grid: Grid, classes: Sequence[str]) -> None:
    features = optional("rasterio.features", file_name(path))
    transform = optional("rasterio", file_name(path)).Affine(*grid.transform)
    found = list(features.shapes(label, mask=label > 0, transform=transform))
    shapely = optional("shapely", file_name(path))
    geometry = np.array([shapely.to_wkb(shapely.geometry.shape(shape)) for shape, _ in found], dtype=object)
    names = np.array([classes[int(value)] for _, value in found], dtype=object)
    path.parent.mkdir(parents=True, exist_ok=True)
    write = optional("pyogrio.raw", file_name(path)).write
    write(path, geometry, [names], ["class"], layer="labels", driver="GPKG", geometry_type="Polygon", crs=grid.crs)
