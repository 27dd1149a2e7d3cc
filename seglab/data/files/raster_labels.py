"""Labels that are rasters, read by GDAL, and whether they lie on the grid of their image."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seglab.data.files.pixels import LABELS, named
from seglab.data.files.rasters import Grid, grid_of, opened
from seglab.data.folder import Pair
from seglab.data.problems import file_name
from seglab.labels import VOID
from seglab.machine.extras import optional

TOLERANCE = 0.01
"""Part of a pixel by which the corners of two files of one grid may differ: programs round what they write."""


def check_grids(pair: Pair, grid: Grid | None, height: int, width: int) -> None:
    """Raises ValueError, with both grids, where an image of this grid and its label raster do not share it.

    A file without georeference has the grid of the other one if it has its size.
    """
    with opened(pair.label) as source:
        theirs = grid_of(source)
        size = (source.height, source.width)
    same = size == (height, width) and (grid is None or theirs is None or same_grid(grid, theirs, height, width))
    if not same:
        raise ValueError(
            f"{file_name(pair.image)}: the image is {width}x{height}{grid_words(grid)}, its label "
            f"{size[1]}x{size[0]}{grid_words(theirs)}: accepted are equal sizes and grids "
            "(gdalwarp -r near -te ... -tr ... puts a label on the grid of an image)"
        )


def same_grid(a: Grid, b: Grid, height: int, width: int) -> bool:
    """True if images of this size have the same places on two grids."""
    corners = np.array([(x, y, 1) for x in (0, width) for y in (0, height)])
    places = [corners @ np.reshape(grid.transform, (2, 3)).T for grid in (a, b)]
    pixel = min(np.hypot(a.transform[0], a.transform[3]), np.hypot(a.transform[1], a.transform[4]))
    return bool(np.abs(places[0] - places[1]).max() <= TOLERANCE * pixel) and _same_crs(a.crs, b.crs)


def _same_crs(a: str | None, b: str | None) -> bool:
    if a is None or b is None or a == b:
        return True
    crs = optional("rasterio.crs", "comparing grids").CRS.from_wkt
    first, second = crs(a), crs(b)
    return bool(first == second) or (first.to_epsg() is not None and first.to_epsg() == second.to_epsg())


def grid_words(grid: Grid | None) -> str:
    """A grid as the end of a sentence."""
    if grid is None:
        return " without georeference"
    crs = optional("rasterio.crs", "comparing grids").CRS.from_wkt(grid.crs) if grid.crs else None
    name = "no CRS" if crs is None else f"EPSG:{crs.to_epsg()}" if crs.to_epsg() else f"the CRS {_name(crs)}"
    return f" at ({', '.join(f'{v:.10g}' for v in grid.transform)}) in {name}"


def _name(crs: Any) -> str:
    return str(crs.to_wkt()).partition('"')[2].partition('"')[0]


def read_raster_label(
    path: Path, classes: Mapping[str, str], colors: bool, window: tuple[tuple[int, int], tuple[int, int]] | None = None
) -> np.ndarray:
    """Ids `[H,W]` or `[H,W,3]` in their own type, VOID where the file has no data; or with `colors` `uint8 [H,W,3]`.

    `window`: only of these rows and columns, each from one to before another.

    Raises ValueError that names the file and the reason.
    """
    with opened(path) as source, named(path):
        _check_stored(source)
        alpha = [kind.name == "alpha" for kind in source.colorinterp]
        bands = [band for band, hidden in zip(source.indexes, alpha, strict=True) if not hidden]
        values = np.moveaxis(source.read(bands, window=window), 0, -1)
        hidden = source.dataset_mask(window=window) == 0
        if colors:
            return _colors(source, values, hidden if any(alpha) else None)
        if len(bands) not in (1, 3) or values.dtype.kind not in "iuf" or (len(bands) == 3 and values.dtype != np.uint8):
            raise ValueError(f"a label of {len(bands)} bands of {values.dtype}: {LABELS}")
        ids = values if len(bands) == 3 else values[..., 0]
        if not hidden.any():
            return ids
        _check_no_data(source.nodata, classes)
        return np.where(hidden[..., None] if ids.ndim == 3 else hidden, np.int16(VOID), ids)


def _check_stored(source: Any) -> None:
    facts = source.tags(ns="IMAGE_STRUCTURE")
    compression = facts.get("COMPRESSION", "")
    reversibility = facts.get("COMPRESSION_REVERSIBILITY", "LOSSY" if "JPEG" in compression else "")
    if source.driver == "JPEG" or "LOSSY" in reversibility:
        raise ValueError(
            f"a label with lossy compression ({compression or source.driver}), which changes values: "
            "accepted are TIFF, PNG, BMP and lossless JPEG 2000"
        )
    if facts.get("MINISWHITE") == "YES":
        raise ValueError("a label in which 0 is white (photometric 0): accepted is 0 as black (photometric 1)")


def _check_no_data(nodata: float | None, classes: Mapping[str, str]) -> None:
    """Raises ValueError where it is in doubt whether a value means a class or no data."""
    if nodata is not None and nodata in range(len(classes)):
        name = list(classes)[int(nodata)]
        raise ValueError(
            f"its value for no data, {nodata:g}, is the class {name}, too: accepted is a label without "
            f"(gdal_edit.py -unsetnodata) where it means {name}, or with {VOID} in its place where it means void"
        )


def _colors(source: Any, values: np.ndarray, hidden: np.ndarray | None) -> np.ndarray:
    if hidden is not None and hidden.any():
        raise ValueError("a label with transparent pixels: accepted is alpha 255 everywhere, or none")
    if values.dtype == np.uint8 and values.shape[2] == 3:
        return values
    if values.dtype != np.uint8 or values.shape[2] != 1:
        raise ValueError(f"a label of {values.shape[2]} bands of {values.dtype}: accepted are colours, RGB of 8 bits")
    if source.colorinterp[0].name == "palette":
        table = source.colormap(1)
        return np.array([table.get(i, (0, 0, 0, 0))[:3] for i in range(256)], np.uint8)[values[..., 0]]
    return np.repeat(values, 3, 2)
