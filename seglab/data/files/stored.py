"""Facts of how an image file stores its pixels, read from its header: Pillow alone hides some of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
GREY, PALETTE, RGB, YCBCR, CMYK = "grey", "palette", "RGB", "YCbCr", "CMYK"
UNSIGNED, SIGNED, FLOAT = "unsigned", "signed", "float"

# TIFF 6.0: the tags, and the values of theirs that matter here
SUBFILE, WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES, EXTRA, SAMPLE_FORMAT = (
    *(254, 256, 257, 258, 259, 262, 274, 277, 338, 339),
)
TIFF_COLORS = {0: GREY, 1: GREY, 2: RGB, 3: PALETTE, 5: CMYK, 6: YCBCR, 8: "Lab"}
TIFF_KINDS = {1: UNSIGNED, 2: SIGNED, 3: FLOAT, 4: UNSIGNED}
GEOTIFF = (33550, 33922, 34264, 34735)  # pixel scale, tie points, transformation, keys of the CRS
TIFF_LOSSY = (6, 7, 34712, 50001)  # two of JPEG, JPEG 2000, WebP
REDUCED = 1  # bit of SUBFILE: an overview of another page

PNG_COLORS = {0: GREY, 2: RGB, 3: PALETTE, 4: GREY, 6: RGB}
MODES = {"1": GREY, "L": GREY, "LA": GREY, "P": PALETTE, "PA": PALETTE, "RGB": RGB, "RGBA": RGB, "CMYK": CMYK}


@dataclass(frozen=True)
class Stored:
    """`bits` a channel of `kind` numbers; `bands` without alpha; `pages` without overviews."""

    format: str
    colors: str
    bits: int
    bands: int
    kind: str = UNSIGNED
    alpha: bool = False
    pages: int = 1
    lossy: bool = False
    white_is_zero: bool = False
    orientation: int = 1
    """as a TIFF tag; that of other formats is in their EXIF block"""
    pixels: int = 0
    """of a TIFF"""


def stored(path: Path) -> Stored:
    """The facts of a file. Raises what Pillow raises where it is no image of the FORMATS."""
    with path.open("rb") as file:
        head = file.read(26)
        if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            file.seek(0)
            return _of_tiff(list(_directories(file)))
    with Image.open(path, formats=FORMATS) as picture:
        if picture.format == "PNG":
            colors = PNG_COLORS[head[25]]
            bands = 3 if colors == RGB else 1
            return Stored("PNG", colors, head[24], bands, UNSIGNED, head[25] in (4, 6), _pages(picture))
        colors = MODES.get(picture.mode, picture.mode)
        bands = {GREY: 1, PALETTE: 1, CMYK: 4}.get(colors, 3)
        bits = 1 if picture.mode == "1" else 8
        lossy = picture.format in ("JPEG", "MPO", "WEBP")
        alpha = picture.mode.endswith("A")
        return Stored(str(picture.format), colors, bits, bands, UNSIGNED, alpha, _pages(picture), lossy)


def pixel_count(path: Path) -> int:
    """Width times height, from the header; 0 where it cannot be read."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            return picture.width * picture.height
    except Exception:  # of many kinds, where a header is broken: reading the pixels says which
        return 0


def _pages(picture: Image.Image) -> int:
    # the further pictures of a photograph (MPO) are its previews
    return 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)


def _directories(file: BinaryIO) -> Iterator[ImageFileDirectory_v2]:
    """The tags of each page of a TIFF file."""
    head = file.read(8)
    if 43 in head[2:4]:  # BigTIFF
        head += file.read(8)
    page = ImageFileDirectory_v2(head)
    seen = set()
    while page.next and page.next not in seen:
        seen.add(page.next)
        file.seek(page.next)
        page = ImageFileDirectory_v2(head)
        page.load(file)
        yield page


def _of_tiff(pages: list[ImageFileDirectory_v2]) -> Stored:
    if not pages:
        raise SyntaxError("a TIFF file without an image")
    first = pages[0]
    (samples, *_), (photometric, *_) = _values(first, SAMPLES, 1), _values(first, PHOTOMETRIC, 1)
    extra = _values(first, EXTRA)
    alpha = len(extra) == 1 and extra[0] in (1, 2)
    kinds = {TIFF_KINDS.get(k, "complex") for k in _values(first, SAMPLE_FORMAT, 1)}
    return Stored(
        "TIFF",
        TIFF_COLORS.get(photometric, f"photometric {photometric}"),
        max(_values(first, BITS, 1)),
        samples - alpha,
        kinds.pop() if len(kinds) == 1 else "mixed",
        alpha,
        1 + sum(not _values(page, SUBFILE, 0)[0] & REDUCED for page in pages[1:]),
        _values(first, COMPRESSION, 1)[0] in TIFF_LOSSY,
        photometric == 0,
        _values(first, ORIENTATION, 1)[0],
        _values(first, WIDTH, 0)[0] * _values(first, LENGTH, 0)[0],
    )


def _values(page: ImageFileDirectory_v2, tag: int, *default: int) -> tuple[int, ...]:
    found = page.get(tag, default)
    return tuple(found) if isinstance(found, tuple) else (found,)
