"""Parts of a picture that Pillow decodes as a whole."""

import numpy as np
from PIL import Image, ImageOps

from seglab.data.crops.slices import Voids, as_png, as_tiff, ids, void_pixels
from seglab.data.files.rasters import Grid
from seglab.data.files.stored import GREY, Stored


class Whole:
    """A picture in memory. Palettes and transparent colours stay; greys of 2 and 4 bits become 8 bits as they are read.

    In an image those are stretched to 0..255, in a label they keep their values.
    """

    grid: Grid | None = None

    def __init__(self, picture: Image.Image, facts: Stored, label: bool):
        if facts.format == "PNG" and facts.colors == GREY and facts.bits in (2, 4) and not facts.alpha:
            scale = 255 // (2**facts.bits - 1)  # Pillow stretches the pixels, but not the transparent value
            info = picture.info
            if label:
                picture = picture.point([value // scale for value in range(256)])
            elif "transparency" in info:
                info["transparency"] *= scale
            picture.info = info
        self.picture = picture
        self.width, self.height = picture.size
        self.bytes_a_pixel = len(picture.getbands())
        self.suffix = ".tif" if facts.format == "TIFF" else ".png"

    def read(self, top: int, left: int, height: int, width: int) -> Image.Image:
        return self.picture.crop((left, top, left + width, top + height))

    def part(self, block: Image.Image, left: int, width: int) -> Image.Image:
        return block.crop((left, 0, left + width, block.height))

    def encoded(self, block: Image.Image, top: int, left: int) -> bytes:
        block.info.pop("exif", None)  # its orientation is applied
        return as_tiff(block) if self.suffix == ".tif" else as_png(block)

    def empty(self, block: Image.Image) -> np.ndarray:
        if not block.has_transparency_data:
            return np.zeros((block.height, block.width), bool)
        return np.asarray(block.convert("RGBA").getchannel("A")) == 0

    def void(self, block: Image.Image, voids: Voids) -> np.ndarray:
        colors = [v for v in voids if isinstance(v, str)]
        found = void_pixels(np.atleast_3d(np.asarray(block)), voids if block.mode != "P" else ids(voids))
        if colors and block.mode == "P":
            found |= void_pixels(np.asarray(block.convert("RGB")), colors)
        return found


def upright(picture: Image.Image) -> Image.Image:
    """A copy of a picture, turned as its EXIF orientation says; Pillow turns TIFF itself."""
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # of many kinds, where the EXIF block is broken: training shows the picture as it is
        return picture.copy()
