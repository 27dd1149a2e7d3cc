"""A picture of which parts are taken, and how a part becomes a file."""

import io
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from seglab.data.files.rasters import Grid
from seglab.labels import VOID, rgb

Voids = Sequence[int | str]
"""Values, and colours `#rrggbb`, of a label that mean void."""


class Slices(Protocol):
    """An open picture of which blocks are read, parts of blocks taken, and written as files of their own."""

    height: int
    width: int
    grid: Grid | None
    bytes_a_pixel: int
    suffix: str
    """of the files"""

    def read(self, top: int, left: int, height: int, width: int) -> Any:
        """A block within the picture."""
        ...

    def part(self, block: Any, left: int, width: int) -> Any:
        """Some columns of a block."""
        ...

    def encoded(self, block: Any, top: int, left: int) -> bytes:
        """The content of a file of a block that begins there."""
        ...

    def empty(self, block: Any) -> np.ndarray:
        """`bool [h,w]`: pixels that are transparent, or no data in all bands."""
        ...

    def void(self, block: Any, voids: Voids) -> np.ndarray:
        """`bool [h,w]`: pixels of a label that belong to no class."""
        ...


def ids(voids: Voids) -> list[int]:
    """The values among them."""
    return [v for v in voids if not isinstance(v, str)]


def void_pixels(values: np.ndarray, voids: Voids) -> np.ndarray:
    """`bool [h,w]` of a label `[h,w,C]`: in one band 255 and these ids, in more these colours and greys."""
    if values.shape[2] < 3:
        return np.isin(values[..., 0], [VOID, *ids(voids)])
    found = np.zeros(values.shape[:2], bool)
    for void in voids:
        found |= (values[..., :3] == (rgb(void) if isinstance(void, str) else (void,) * 3)).all(-1)
    return found


def as_png(picture: Image.Image) -> bytes:
    """The content of such a file."""
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=1)  # of a photograph as small as with 6, in half of the time
    return out.getvalue()


def as_tiff(picture: Image.Image) -> bytes:
    """The content of such a file."""
    out = io.BytesIO()
    picture.save(out, "TIFF", compression="tiff_adobe_deflate")
    return out.getvalue()
