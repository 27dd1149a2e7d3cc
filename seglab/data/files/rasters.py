"""Images by window: the pixels of a part of a file, however large the whole, and where they lie on the earth."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import cos, hypot, isfinite, radians
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from seglab.data.files.pixels import Pixels, check_image, named, read_image
from seglab.data.files.stored import GREY, RGB, YCBCR, stored
from seglab.data.problems import file_name
from seglab.machine.extras import installed, optional

DRIVERS = ("GTiff", "COG", "JP2OpenJPEG", "PNG", "JPEG", "BMP")
"""The formats that GDAL may open: others, such as VRT, would let a file from elsewhere name further files and hosts."""

TYPES = ("uint8", "uint16", "int16", "float32")
"""Types of pixels that are kept as they are; float64 is read as float32."""

CACHE_BYTES = 64 << 20
"""Memory that GDAL may keep decoded blocks in: by default it is a twentieth of the machine's.

rasterio takes bytes, unlike GDAL itself, for which 64 would be megabytes: with 64 bytes, drawing polygons takes 40
times as long, and tiles are decoded anew for each window.
"""

METRES_A_DEGREE = 111_320.0

POINTS = "placed by ground control points: accepted is a transform, as gdalwarp gives it"
"""The fault of an image whose place would be lost."""


@dataclass(frozen=True)
class Grid:
    """Place of an image's pixels: `x = a column + b row + c`, `y = d column + e row + f` of corners, and the CRS."""

    transform: tuple[float, float, float, float, float, float]
    crs: str | None
    """as WKT"""

    def window(self, top: int, left: int) -> "Grid":
        """The grid of a part that begins at this pixel."""
        a, b, c, d, e, f = self.transform
        return Grid((a, b, a * left + b * top + c, d, e, d * left + e * top + f), self.crs)

    @property
    def metres(self) -> float | None:
        """Side of a pixel in metres, of degrees at the latitude of the image's corner; None without a CRS."""
        if self.crs is None:
            return None
        a, b, _, d, e, f = self.transform
        crs = optional("rasterio.crs", "a coordinate system").CRS.from_wkt(self.crs)
        if crs.is_geographic:
            width = hypot(a * cos(radians(min(abs(f), 89.0))), d) * METRES_A_DEGREE
            return (width * hypot(b, e) * METRES_A_DEGREE) ** 0.5
        return (hypot(a, d) * hypot(b, e)) ** 0.5 * float(crs.linear_units_factor[1])


class Raster(Protocol):
    """An open image of `height` x `width` pixels with `bands` values each, of which windows can be read."""

    path: Path
    height: int
    width: int
    bands: int
    dtype: np.dtype
    grid: Grid | None

    def read(self, top: int, left: int, height: int, width: int) -> Pixels:
        """A window that lies within the image: `values [h,w,C]`, and `hidden` where no band has a value."""
        ...


class Decoded:
    """An image that was read whole."""

    grid: Grid | None = None

    def __init__(self, path: Path, pixels: Pixels):
        self.path = path
        self.pixels = pixels
        self.height, self.width, self.bands = pixels.values.shape
        self.dtype = pixels.values.dtype

    def read(self, top: int, left: int, height: int, width: int) -> Pixels:
        window = (slice(top, top + height), slice(left, left + width))
        values, hidden, orientation = self.pixels
        return Pixels(values[window], None if hidden is None else hidden[window], orientation)


class Windowed:
    """An image that GDAL reads by window. `bands` null: RGB of 8 bits, as `read_image` gives it."""

    def __init__(self, path: Path, source: Any, bands: Sequence[int] | None):
        self.path = path
        self._source = source
        self._as_rgb = bands is None
        count = source.count
        self._indexes = list(bands or ((1, 2, 3) if count >= 3 else (1, 1, 1)))
        wrong = [band for band in self._indexes if not 1 <= band <= count]
        if wrong:
            raise ValueError(f"band {wrong[0]}: the file has {count} band{'s' * (count > 1)}, counted from 1")
        self.height, self.width, self.bands = source.height, source.width, len(self._indexes)
        self.dtype = self._own_type()
        self.grid = grid_of(source)
        flags = [source.mask_flag_enums[band - 1] for band in self._indexes]
        self._complete = all([flag.name for flag in band] == ["all_valid"] for band in flags)

    def _own_type(self) -> np.dtype:
        kinds = sorted({self._source.dtypes[band - 1] for band in self._indexes})
        kinds = ["float32" if kind == "float64" else kind for kind in kinds]
        if len(kinds) != 1 or kinds[0] not in TYPES:
            raise ValueError(
                f"pixels of {' and '.join(kinds)}: accepted are {', '.join(TYPES)}, the same in all bands; "
                "convert with gdal_translate -ot Float32"
            )
        return np.dtype(kinds[0])

    def read(self, top: int, left: int, height: int, width: int) -> Pixels:
        with named(self.path):
            window = ((top, top + height), (left, left + width))
            values = np.moveaxis(self._source.read(self._indexes, window=window), 0, -1).astype(self.dtype, copy=False)
            missing = self._missing(values, window)
            if missing is None:
                return Pixels(np.ascontiguousarray(values), None, 1)
            hidden = missing.all(-1)
            if not self._as_rgb:
                values = np.where(missing, values.dtype.type(0), values)
            return Pixels(np.ascontiguousarray(values), np.asarray(hidden) if hidden.any() else None, 1)

    def _missing(self, values: np.ndarray, window: tuple) -> np.ndarray | None:
        """Values `bool [h,w,C]` that are no data, transparent or not finite; None where there are none."""
        missing = np.zeros(values.shape, bool) if values.dtype.kind != "f" else ~np.isfinite(values)
        if not self._complete:
            missing |= np.moveaxis(self._source.read_masks(self._indexes, window=window), 0, -1) == 0
        return missing if missing.any() else None


@contextmanager
def open_raster(path: Path, bands: Sequence[int] | None = None) -> Iterator[Raster]:
    """An image to read windows of. `bands` (from 1) in their own type, or for None RGB of 8 bits as training reads it.

    Values that are missing (no data, transparent, NaN) are 0 in bands that are asked for. Without rasterio, images of
    8-bit RGB are read whole. Raises ValueError that names the file and the reason, MissingExtra for bands without it.
    """
    if bands is None and not (installed("rasterio") and _by_window(path)):
        yield Decoded(path, read_image(path))
        return
    with opened(path) as source:
        with named(path):
            raster = Windowed(path, source, bands)
        yield raster


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file as rasterio's dataset. Raises ValueError that names the file, and MissingExtra."""
    rasterio = optional("rasterio", f"{file_name(path)}: reading a raster")
    _pass_over(rasterio.errors.NotGeoreferencedWarning)
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        with named(path):
            if not path.is_file():
                raise FileNotFoundError(2, "no such file")
            source = rasterio.io.DatasetReader(str(path.absolute()), driver=list(DRIVERS))
        with source:
            yield source


def _pass_over(category: type[Warning]) -> None:
    """Ignores warnings of a kind from now on: `catch_warnings` around a call would end it for other threads, too."""
    wanted = ("ignore", None, category, None, 0)
    if wanted not in warnings.filters:
        warnings.simplefilter("ignore", category)


def metres(path: Path) -> float | None:
    """Side of an image's pixel in metres; None where it is unknown, or rasterio is missing."""
    if not installed("rasterio"):
        return None
    try:
        with opened(path) as source:
            grid = grid_of(source)
            return grid.metres if grid else None
    except ValueError:  # not readable by GDAL, as WebP data are
        return None


def _by_window(path: Path) -> bool:
    """True if GDAL reads it: RGB or grey of 8 bits, not turned, which has the same values as by Pillow.

    A TIFF compressed as JPEG, of which GDAL decodes some values otherwise, only where it is too large for Pillow.
    Raises ValueError for an image that training refuses.
    """
    with named(path):
        facts = stored(path)
        check_image(facts)
        same = facts.colors in (GREY, RGB) and not facts.white_is_zero and not facts.lossy
        large = facts.colors in (GREY, RGB, YCBCR) and facts.pixels > 2 * (Image.MAX_IMAGE_PIXELS or facts.pixels)
        return (facts.format, facts.bits, facts.orientation) == ("TIFF", 8, 1) and (same or large)


def grid_of(source: Any) -> Grid | None:
    """The place on the earth; None where the file has none, or one in which a pixel has no area."""
    a, b, _, d, e, _ = transform = tuple(source.transform)[:6]
    if (source.transform.is_identity and source.crs is None) or not (isfinite(sum(transform)) and a * e != b * d):
        return None
    return Grid(transform, source.crs.to_wkt() if source.crs else None)
