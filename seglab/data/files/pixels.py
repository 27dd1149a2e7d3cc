"""The one way from an image file to pixels, for training, audit and prediction; docs/data.md lists what it reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from seglab.data.files.stored import FLOAT, FORMATS, GREY, ORIENTATION, PALETTE, RGB, UNSIGNED, YCBCR, Stored, stored
from seglab.data.problems import file_name
from seglab.labels import VOID

IMAGES = "accepted are 8-bit images of 1 band (grey) or 3 bands (RGB), with or without alpha (data=raster reads others)"
LABELS = "accepted are class ids in one band, or in three equal ones of 8 bits"

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it prints a line a tag of a GeoTIFF


NODATA = 42113
"""The tag in which GDAL keeps the value of a TIFF's pixels that hold nothing."""


class Pixels(NamedTuple):
    """Image `values uint8 [H,W,3]`, upright; `hidden bool [H,W]` where it is transparent or no data, else None."""

    values: np.ndarray
    hidden: np.ndarray | None
    orientation: int


def read_image(path: Path) -> Pixels:
    """An image, turned as its orientation says. Raises ValueError naming the file, what is wrong, what is accepted."""
    with named(path):
        facts = stored(path)
        check_image(facts)
        with _opened(path) as picture:
            orientation = _orientation(picture, facts)
            hidden = _hidden(picture, facts.bits)
            plain = picture.convert("LA") if picture.mode == "La" else picture  # grey multiplied by alpha
            values = np.asarray(plain if plain.mode == "RGB" else plain.convert("RGB"))
            empty = _empty(picture, values)
            hidden = empty if hidden is None else hidden | empty if empty is not None else hidden
        if facts.format != "TIFF":  # Pillow turns that itself
            values = upright(values, orientation)
            hidden = None if hidden is None else upright(hidden, orientation)
        return Pixels(values, hidden, orientation)


def read_label(path: Path, colors: bool = False, num_classes: int = VOID) -> np.ndarray:
    """A label, turned as its own orientation says: `[H,W]` in its own type, or `uint8 [H,W,3]`.

    A palette picture gives its indices, and with `colors` its colours, as everything else does. Raises ValueError like
    `read_image`, also where `num_classes` leaves it in doubt whether the indices of a palette or its greys are meant.
    """
    with named(path):
        facts = stored(path)
        _check_label(facts, colors)
        if facts.format == "TIFF" and (facts.bits > 8 or facts.kind != UNSIGNED):
            return _by_opencv(path, facts)
        with _opened(path) as picture:
            orientation = _orientation(picture, facts)
            values = _label_values(picture, facts, colors, num_classes)
        return values if facts.format == "TIFF" else upright(values, orientation)


def pixels(path: Path, mode: str | None = "RGB") -> np.ndarray:
    """An image `uint8 [H,W,3]`, or for mode None a label. Raises ValueError naming file and reason."""
    return read_image(path).values if mode else read_label(path)


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """`[H,W,...]` turned and mirrored as the EXIF orientation 1..8 says; unknown ones leave it as it is."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def check_image(facts: Stored) -> None:
    if facts.colors not in (GREY, PALETTE, RGB, YCBCR):
        raise ValueError(f"{facts.colors} colours: {IMAGES}")
    if facts.kind != UNSIGNED or facts.bits > 8:
        bits = f"{facts.bits} bits" if facts.kind == UNSIGNED else f"{facts.kind} numbers of {facts.bits} bits"
        raise ValueError(f"{bits} a channel: {IMAGES}; convert with gdal_translate -ot Byte -scale")
    if facts.bands != (3 if facts.colors in (RGB, YCBCR) else 1):
        raise ValueError(f"{_bands(facts)}: {IMAGES}; choose with gdal_translate -b 1 -b 2 -b 3")
    check_pages(facts)


def _check_label(facts: Stored, colors: bool) -> None:
    check_lossless(facts)
    if colors:
        return check_image(facts)
    if facts.white_is_zero:
        raise ValueError("a label in which 0 is white (photometric 0): accepted is 0 as black (photometric 1)")
    if facts.bands not in (1, 3) or facts.colors not in (GREY, PALETTE, RGB):
        raise ValueError(f"a label of {_bands(facts)}, {facts.colors}: {LABELS}")
    odd = facts.kind not in (UNSIGNED, "signed", FLOAT) or (facts.kind == FLOAT and facts.bits not in (32, 64))
    if odd or ((facts.bands > 1 or facts.alpha) and (facts.bits > 8 or facts.kind != UNSIGNED)):
        raise ValueError(f"a label of {_bands(facts)}, {facts.bits} bits, {facts.kind}: {LABELS}")
    check_pages(facts)


def check_lossless(facts: Stored) -> None:
    """Raises ValueError for a label whose values are not those that were written."""
    if facts.lossy:
        raise ValueError(
            f"a label with lossy compression ({facts.format}), which changes values: accepted are PNG, BMP and TIFF"
        )


def check_pages(facts: Stored) -> None:
    """Raises ValueError for more than one picture in a file."""
    if facts.pages > 1:
        raise ValueError(f"{facts.pages} pages: accepted is one picture a file")


def _bands(facts: Stored) -> str:
    bands = f"{facts.bands} band{'s' * (facts.bands > 1)}"
    if facts.alpha:
        return f"{bands} and alpha"
    return f"{bands}, the last not marked as alpha" if facts.bands in (2, 4) and facts.format == "TIFF" else bands


def _orientation(picture: Image.Image, facts: Stored) -> int:
    if facts.format == "TIFF":
        return facts.orientation
    try:
        return picture.getexif().get(ORIENTATION, 1)
    except Exception:  # of many kinds, where the EXIF block is broken: every viewer then shows the picture as it is
        return 1


def _hidden(picture: Image.Image, bits: int) -> np.ndarray | None:
    if not picture.has_transparency_data:
        return None
    if picture.mode == "L" and bits in (2, 4):
        picture.info["transparency"] *= 255 // (2**bits - 1)  # Pillow scales the pixels, but not this
    alpha = picture.getchannel("a") if picture.mode == "La" else picture.convert("RGBA").getchannel("A")
    hidden = np.asarray(alpha) == 0
    return hidden if hidden.any() else None


def _empty(picture: Image.Image, values: np.ndarray) -> np.ndarray | None:
    """Pixels that have, in all bands, the value that a TIFF names for no data; None where there are none."""
    try:
        named = float(str(getattr(picture, "tag_v2", {}).get(NODATA, "")).strip(" \0"))
    except ValueError:
        return None
    found = (values == named).all(-1)
    return found if found.any() else None


def _label_values(picture: Image.Image, facts: Stored, colors: bool, num_classes: int) -> np.ndarray:
    if facts.alpha and (lowest := picture.getchannel("A").getextrema()[0]) != 255:
        raise ValueError(f"a label with transparent pixels (alpha {lowest}): accepted is alpha 255 everywhere, or none")
    if colors:
        return np.asarray(picture.convert("RGB"))
    values = np.asarray(picture)
    if facts.colors == PALETTE:
        values = values[..., 0] if values.ndim == 3 else values
        _check_palette(picture, values, num_classes)
        return values
    if facts.alpha:
        return values[..., : facts.bands] if facts.bands > 1 else values[..., 0]
    scaled = facts.colors == GREY and facts.bits in (2, 4)  # by Pillow, to 0..255
    return values // (255 // (2**facts.bits - 1)) if scaled else values


def _check_palette(picture: Image.Image, indices: np.ndarray, num_classes: int) -> None:
    """Raises ValueError where the colours are greys that are class ids, too, but others than the indices."""
    table = np.array(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    used = np.unique(indices)
    used = used[used < len(table)]
    greys = table[used]
    ids = greys[:, 0]
    if (greys != ids[:, None]).any() or not ((ids < num_classes) | (ids == VOID)).all():
        return
    other = used[(ids != used) & (ids < num_classes)]
    if other.size:
        raise ValueError(
            f"palette index {other[0]} shows grey {table[other[0], 0]}, and both are class ids: accepted is a palette "
            "whose greys equal its indices, or a label without a palette"
        )


def _by_opencv(path: Path, facts: Stored) -> np.ndarray:
    """One band of wide, signed or float numbers: Pillow misreads some and refuses others (Pillow 13, by trial)."""
    if facts.orientation in (5, 6, 7, 8):  # OpenCV applies 2, 3, 4 and fails at these
        raise ValueError(f"orientation {facts.orientation} in a label of {facts.bits} bits: accepted is orientation 1")
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError("a damaged or truncated TIFF file, or a compression that cannot be read")
    return values


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The decoded picture, by an open file: Pillow 13 maps a file that it opens by name, and garbles a turned TIFF."""
    with path.open("rb") as file, Image.open(file, formats=FORMATS) as picture:
        picture.load()
        yield picture


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Turns whatever reading raises into a ValueError that begins with the file's name."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as e:  # a broken file raises almost any of them within Pillow
        raise ValueError(f"{file_name(path)}: {_reason(e, path)}") from e


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"too many pixels: accepted are up to {2 * (Image.MAX_IMAGE_PIXELS or 0):,}; cut it into tiles"
    if isinstance(error, OSError) and error.strerror:
        return f"not readable ({error.strerror})"
    if isinstance(error, UnidentifiedImageError):
        return "an empty file (0 bytes)" if not path.stat().st_size else "not a readable image"
    told = error.__cause__ if "See previous exception" in str(error) and error.__cause__ else error  # of rasterio
    said = str(told).splitlines()
    return (
        said[0]
        if isinstance(error, ValueError | OSError) and said
        else f"a damaged file ({said[0] if said else error!r})"
    )
