"""GeoTIFFs of maps: cloud optimised, with overviews, written row by row and read back before they take their name."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seglab.data.files.rasters import CACHE_BYTES, Grid
from seglab.machine.extras import optional
from seglab.predict.output.resume import Rows

STEP = 256
"""Rows that are written at once; also the side of a block."""


@dataclass(frozen=True)
class Picture:
    """A raster to be written: its rows `[h,W]` or `[h,W,C]`, and what a GIS shows of it."""

    rows: Rows
    height: int
    width: int
    bands: int
    tags: Mapping[str, str]
    grid: Grid | None = None
    overviews: str = "NEAREST"
    nodata: int | None = None
    colors: Mapping[int, tuple[int, int, int, int]] | None = None
    names: Sequence[str] = ()
    """of its bands"""
    level: int = 6
    """of deflate"""
    scale: float | None = None
    """A value is that many times its number."""
    kinds: Sequence[str] = field(default_factory=tuple)
    """Colour interpretation of its bands."""

    def parts(self) -> Iterator[tuple[int, np.ndarray]]:
        """First row and values `[C,h,W]`, from the top down."""
        for top in range(0, self.height, STEP):
            rows = self.rows.read(top, min(top + STEP, self.height))
            yield top, rows.reshape(len(rows), self.width, self.bands).transpose(2, 0, 1)


def write_geotiff(picture: Picture, made: Path, path: Path) -> None:
    """Writes a COG as `made`, which will be called `path`, by way of files beside it. Raises OSError."""
    rasterio = optional("rasterio", f"{path}: writing a GeoTIFF")
    copy = optional("rasterio.shutil", f"{path}: writing a GeoTIFF").copy
    plain, cog = made.with_name("plain.tif"), made.with_name("cog.tif")
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_PAM_ENABLED="NO"), warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            _write(rasterio, picture, plain)
            layout = {
                "blocksize": 2 * STEP,
                "compress": "DEFLATE",
                "overview_resampling": picture.overviews,
            }
            copy(plain, cog, driver="COG", bigtiff="IF_SAFER", level=picture.level, num_threads="ALL_CPUS", **layout)
            _check(rasterio, picture, cog)
        except rasterio.errors.RasterioError as e:
            raise OSError(f"{path}: not written ({str(e).splitlines()[0]}); is the disk full?") from e
        finally:
            plain.unlink(missing_ok=True)
        cog.replace(made)


def _write(rasterio: Any, picture: Picture, path: Path) -> None:
    place: dict[str, Any] = {}
    if picture.grid:
        place = {"transform": rasterio.Affine(*picture.grid.transform), "crs": picture.grid.crs}
    blocks = {"tiled": True, "blockxsize": STEP, "blockysize": STEP, "interleave": "pixel"}
    shape = {"height": picture.height, "width": picture.width, "count": picture.bands, "dtype": "uint8"}
    fast = {"compress": "DEFLATE", "zlevel": 1, "bigtiff": "IF_SAFER", "photometric": "MINISBLACK"}
    if picture.kinds:
        fast |= {"photometric": "RGB", "alpha": "UNSPECIFIED"}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place, **blocks, **fast, nodata=picture.nodata) as file:
        file.update_tags(**picture.tags)
        if picture.colors:
            file.write_colormap(1, picture.colors)
        if picture.kinds:
            file.colorinterp = [rasterio.enums.ColorInterp[kind] for kind in picture.kinds]
        for i, name in enumerate(picture.names):
            file.set_band_description(i + 1, name)
        if picture.scale:
            file.scales = [picture.scale] * picture.bands
        for top, values in picture.parts():
            file.write(values, window=((top, top + values.shape[1]), (0, picture.width)))


def _check(rasterio: Any, picture: Picture, path: Path) -> None:
    """Raises OSError unless the file holds what was to be written: GDAL does not tell of every full disk."""
    with rasterio.open(path) as file:
        for top, values in picture.parts():
            found = file.read(window=((top, top + values.shape[1]), (0, picture.width)))
            if not np.array_equal(found, values):
                raise OSError(f"{path}: it can't be read back; is the disk full?")
