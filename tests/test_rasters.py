"""Windows of rasters: values, what is missing, and where they lie."""

import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio._env import get_gdal_config
from rasterio.transform import from_origin

from seglab.data.files.pixels import read_image
from seglab.data.files.rasters import Decoded, Grid, open_raster, opened
from seglab.machine.extras import MissingExtra

PLACE = {"crs": "EPSG:32640", "transform": from_origin(500000, 2800000, 0.5, 0.5)}


def written(path: Path, values: np.ndarray, **options: object) -> Path:
    """A GeoTIFF of values `[C,H,W]`, 0.5 m a pixel in UTM zone 40 N."""
    bands, height, width = values.shape
    shape = {"width": width, "height": height, "count": bands, "dtype": values.dtype}
    with rasterio.open(path, "w", driver="GTiff", **PLACE, **shape, **options) as file:
        file.write(values)
    return path


def test_a_window_of_rgb_is_what_training_reads(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1, 256, (3, 40, 50), dtype=np.uint8)
    values[:, :7, :9] = 0
    path = written(tmp_path / "a.tif", values, nodata=0, tiled=True, blockxsize=16, blockysize=16)
    whole = read_image(path)
    with open_raster(path) as raster:
        assert (raster.height, raster.width, raster.bands, raster.dtype) == (40, 50, 3, np.uint8)
        part = raster.read(3, 5, 20, 30)
    assert whole.hidden is not None and part.hidden is not None
    assert (part.values == whole.values[3:23, 5:35]).all() and (part.hidden == whole.hidden[3:23, 5:35]).all()


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "float32"])
def test_bands_keep_their_type_and_order(tmp_path: Path, kind: str) -> None:
    values = np.random.default_rng(0).integers(1, 120, (5, 6, 7)).astype(kind)
    with open_raster(written(tmp_path / "a.tif", values), [5, 1]) as raster:
        part = raster.read(1, 2, 3, 4)
    assert part.values.dtype == kind and part.hidden is None
    assert (part.values == values[[4, 0], 1:4, 2:6].transpose(1, 2, 0)).all()


def test_missing_values_are_0_and_hidden_where_no_band_has_one(tmp_path: Path) -> None:
    values = np.full((2, 3, 3), 7.5)
    values[:, 0, 0], values[0, 1, 1], values[:, 2, 2], values[1, 0, 2] = np.nan, np.nan, -9999, -9999
    with open_raster(written(tmp_path / "a.tif", values, nodata=-9999), [1, 2]) as raster:
        part = raster.read(0, 0, 3, 3)
    assert part.values.dtype == np.float32 and part.hidden is not None
    assert np.argwhere(part.hidden).tolist() == [[0, 0], [2, 2]]
    assert np.argwhere(part.values == 0).tolist() == [[0, 0, 0], [0, 0, 1], [0, 2, 1], [1, 1, 0], [2, 2, 0], [2, 2, 1]]


@pytest.mark.parametrize(("crs", "size", "metres"), [("EPSG:32640", 0.5, 0.5), ("EPSG:2263", 1.0, 1200 / 3937)])
def test_the_side_of_a_pixel_in_metres(crs: str, size: float, metres: float) -> None:
    wkt = rasterio.crs.CRS.from_string(crs).to_wkt()
    assert Grid((size, 0, 0, 0, -size, 0), wkt).metres == pytest.approx(metres)


def test_the_side_of_a_pixel_in_degrees_is_of_its_latitude() -> None:
    wkt = rasterio.crs.CRS.from_epsg(4326).to_wkt()
    assert Grid((1e-5, 0, 55, 0, -1e-5, 60), wkt).metres == pytest.approx(1.1132 * 0.5**0.5, rel=1e-3)


def test_a_part_has_its_own_grid(tmp_path: Path) -> None:
    with open_raster(written(tmp_path / "a.tif", np.ones((3, 8, 9), np.uint8)), [1]) as raster:
        assert raster.grid and raster.grid.window(4, 6).transform == (0.5, 0, 500003, 0, -0.5, 2799998)


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", np.ones((3, 8, 9), np.uint8))
    wide = written(tmp_path / "wide.tif", np.ones((1, 8, 9), np.int32))
    leading = tmp_path / "leading.tif"
    leading.write_text(
        f'<VRTDataset rasterXSize="9" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{path}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    for file, bands, words in (
        (path, [4], "band 4: the file has 3 bands, counted from 1"),
        (wide, [1], "pixels of int32: accepted are uint8, uint16, int16, float32"),
        (leading, [1], "not recognized as being in a supported file format"),
        (tmp_path / "none.tif", [1], "no such file"),
    ):
        with pytest.raises(ValueError, match=words) as raised, open_raster(file, bands):
            pass
        assert file.name in str(raised.value) and "\n" not in str(raised.value)


def test_without_the_extra_rgb_is_read_and_bands_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(1, 256, (3, 8, 9), dtype=np.uint8)
    path = written(tmp_path / "a.tif", values)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with open_raster(path) as raster:
        assert (raster.read(2, 3, 4, 5).values == values.transpose(1, 2, 0)[2:6, 3:8]).all()
    with pytest.raises(MissingExtra, match=r"pip install 'seglab\[geo\]'"), open_raster(path, [1]):
        pass


def test_gdal_has_room_for_decoded_blocks(tmp_path: Path) -> None:
    with opened(written(tmp_path / "a.tif", np.ones((3, 8, 9), np.uint8))):
        assert get_gdal_config("GDAL_CACHEMAX") == 64 * 1024**2  # in bytes


def test_a_tiff_of_jpeg_that_is_too_large_for_pillow_is_read_by_window(tmp_path: Path, monkeypatch) -> None:
    smooth = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8)
    values = np.stack([smooth, smooth[::-1], np.full_like(smooth, 90)])
    path = written(tmp_path / "a.tif", values, compress="jpeg", photometric="ycbcr", tiled=True)
    with open_raster(path) as raster:
        assert isinstance(raster, Decoded), "as training reads it"
        whole = raster.read(8, 16, 20, 30).values.astype(int)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 48 * 64 // 2 - 1)
    with open_raster(path) as raster:
        assert not isinstance(raster, Decoded) and raster.grid is not None
        part = raster.read(8, 16, 20, 30).values.astype(int)
    assert abs(part - whole).max() <= 3
    with pytest.raises(ValueError, match="too many pixels"):
        read_image(path)
