"""Parts of a raster that GDAL reads by window."""

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from seglab.data.crops.slices import Voids, as_png, void_pixels
from seglab.data.files.pixels import named
from seglab.data.files.rasters import POINTS, grid_of
from seglab.data.files.stored import PALETTE, Stored
from seglab.data.problems import file_name
from seglab.machine.extras import optional


class Block(NamedTuple):
    """`values [C,h,w]` and the file's own mask `uint8 [h,w]`, 0 where nothing is; None without one."""

    values: np.ndarray
    mask: np.ndarray | None


class Gdal:
    """A raster that GDAL reads by window, all bands in their own type."""

    def __init__(self, source: Any, facts: Stored | None):
        if source.subdatasets:
            raise ValueError(f"{len(source.subdatasets)} pages: accepted is one picture a file")
        if source.gcps[0]:
            raise ValueError(POINTS)
        if len(kinds := set(source.dtypes)) != 1:
            raise ValueError(f"bands of {' and '.join(sorted(kinds))}: accepted is one type for all bands")
        self.source = source
        self.path = Path(source.name)
        self.height, self.width = source.height, source.width
        self.grid = grid_of(source)
        self.dtype = np.dtype(kinds.pop())
        self.bytes_a_pixel = source.count * self.dtype.itemsize
        self.suffix = ".png" if facts and facts.format in ("PNG", "BMP") else ".tif"
        flags = {flag.name for band in source.mask_flag_enums for flag in band}
        self._masked = "per_dataset" in flags and "alpha" not in flags
        self._colors = source.colorinterp  # of these a thread must not ask the dataset, which another one reads
        self._no_data = source.nodatavals
        self._creation = self._options(bool(facts and facts.white_is_zero))
        self._names = {name: getattr(source, name) for name in ("descriptions", "scales", "offsets", "units")}
        self._area = source.tags().get("AREA_OR_POINT")
        # a table beside the file, in .aux.xml, is not what training reads
        self._table = source.colormap(1) if facts and facts.colors == PALETTE else None

    def read(self, top: int, left: int, height: int, width: int) -> Block:
        with named(self.path):
            window = ((top, top + height), (left, left + width))
            mask = self.source.read_masks(1, window=window) if self._masked else None
            return Block(self.source.read(window=window), mask)

    def part(self, block: Block, left: int, width: int) -> Block:
        columns = slice(left, left + width)
        return Block(block.values[..., columns], None if block.mask is None else block.mask[:, columns])

    def encoded(self, block: Block, top: int, left: int) -> bytes:
        if self.suffix == ".tif":
            return self._as_geotiff(block, top, left)
        values = np.moveaxis(block.values, 0, -1)
        if self.dtype == np.uint8:
            return as_png(Image.fromarray(np.ascontiguousarray(values[..., 0] if values.shape[2] == 1 else values)))
        order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(values.shape[2])  # OpenCV has blue first
        if order is None:
            raise ValueError(f"{file_name(self.path)}: 16-bit grey with alpha: accepted is GeoTIFF")
        return cv2.imencode(".png", values[..., order])[1].tobytes()

    def empty(self, block: Block) -> np.ndarray:
        found = np.zeros(block.values.shape[1:], bool) if block.mask is None else block.mask == 0
        missing = []
        for values, kind, no_data in zip(block.values, self._colors, self._no_data, strict=True):
            if kind.name == "alpha":
                found |= values == 0
            else:
                missing.append(_missing(values, no_data))
        return found | np.all(missing, 0)

    def void(self, block: Block, voids: Voids) -> np.ndarray:
        return void_pixels(np.moveaxis(block.values, 0, -1), voids) | self.empty(block)

    def _options(self, white_is_zero: bool) -> dict[str, Any]:
        """How parts are stored: without loss, and with the values' own meaning."""
        source = self.source
        bits = source.tags(1, ns="IMAGE_STRUCTURE").get("NBITS")
        out = {"compress": "deflate", "zlevel": 1, "nodata": source.nodata, "crs": source.crs}
        out |= {"count": source.count, "dtype": self.dtype.name}
        if self.dtype.kind == "u" and not bits and self.dtype.itemsize <= 2:
            out["predictor"] = 2
        out |= {"nbits": bits} if bits else {}
        return out | ({"photometric": "miniswhite"} if white_is_zero else {})

    def _as_geotiff(self, block: Block, top: int, left: int) -> bytes:
        rasterio = optional("rasterio", "a GeoTIFF")
        _, height, width = block.values.shape
        place = {"transform": rasterio.Affine(*self.grid.window(top, left).transform)} if self.grid else {}
        options = {"height": height, "width": width, **self._creation, **place}
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.MemoryFile() as file:
            with file.open(driver="GTiff", **options) as out:
                self._describe(out)
                out.write(block.values)
                if block.mask is not None:
                    out.write_mask(block.mask)
            return file.read()

    def _describe(self, out: Any) -> None:
        """Writes names, colours, scales and units of the bands."""
        out.colorinterp = self._colors
        for name, value in self._names.items():
            setattr(out, name, value)
        if self._area:
            out.update_tags(AREA_OR_POINT=self._area)
        if self._table:
            out.write_colormap(1, self._table)


def _missing(values: np.ndarray, no_data: float | None) -> np.ndarray:
    found = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    return found if no_data is None else found | (values == no_data)
