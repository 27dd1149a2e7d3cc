"""Pictures of any size, opened to take parts of them in the values, bands and type that they store."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from seglab.data.crops.gdal import Gdal
from seglab.data.crops.slices import Slices
from seglab.data.crops.whole import Whole, upright
from seglab.data.files.pixels import NODATA, check_lossless, check_pages, named
from seglab.data.files.rasters import opened
from seglab.data.files.stored import FORMATS, GEOTIFF, GREY, ORIENTATION, RGB, Stored, stored
from seglab.machine.extras import installed, optional

PLACED = (*GEOTIFF, NODATA)
"""Tags of a TIFF that say where it lies, or which value is no data: Pillow would not write them."""


@contextmanager
def open_slices(path: Path, label: bool = False) -> Iterator[Slices]:
    """A picture to take parts of. Raises ValueError that names the file, and MissingExtra."""
    with named(path):
        facts = None if path.suffix.lower() in (".jp2", ".j2k") else stored(path)
        if facts and label:
            check_lossless(facts)
    if facts is None or _by_gdal(path, facts):
        with opened(path) as source:
            with named(path):
                slices = Gdal(source, facts)
            yield slices
        return
    _check_whole(path, facts)
    with named(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # above twice that many it is an error
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as picture:
            picture.load()
            whole = Whole(upright(picture), facts, label)
    yield whole


def _by_gdal(path: Path, facts: Stored) -> bool:
    """True if GDAL reads parts of it; PNG and BMP only where it gives the values that training reads by Pillow."""
    if not installed("rasterio") or facts.orientation != 1:
        return False
    if facts.format == "TIFF":
        return True
    plain = facts.colors in (GREY, RGB) and facts.bits in (8, 16)
    if facts.format not in ("PNG", "BMP") or not plain:
        return False
    with Image.open(path, formats=FORMATS) as picture:
        turned = picture.getexif().get(ORIENTATION, 1) != 1
        readable = facts.format == "PNG" or "'BGR'" in repr(picture.tile)  # 24 bits a pixel
        return readable and not turned and "transparency" not in picture.info


def _check_whole(path: Path, facts: Stored) -> None:
    """Raises where Pillow would lose what a part must keep."""
    with named(path):
        check_pages(facts)
        if facts.bits > 8 or facts.kind != "unsigned":
            if facts.orientation != 1:
                raise ValueError(f"orientation {facts.orientation} at {facts.bits} bits: accepted is orientation 1")
            optional("rasterio", f"a picture of {facts.bits} bits a channel")
        if facts.format == "TIFF":
            with Image.open(path, formats=FORMATS) as picture:
                placed = [tag for tag in PLACED if tag in getattr(picture, "tag_v2", {})]
            if placed and facts.orientation != 1:
                raise ValueError(
                    f"georeferenced, and turned by orientation {facts.orientation}: accepted is one of them"
                )
            if placed:
                optional("rasterio", "a georeferenced TIFF, or one with a value for no data,")
