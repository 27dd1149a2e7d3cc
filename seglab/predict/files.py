"""The files of `seglab predict`: sizes of images, and maps that replace only maps."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from seglab.machine.files import replacing

MARK = "seglab"
"""Key of the text in a PNG by which a map of `seglab predict` is known; its value is the run's folder."""


@contextmanager
def large_pictures() -> Iterator[None]:
    """Pillow does not warn of a large image; it still refuses one of more than 178 million pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def height_and_width(path: Path) -> tuple[int, int]:
    """The size of a picture, of which no pixel is read. Raises OSError for a file that is none."""
    with Image.open(path) as picture:
        return picture.height, picture.width


def check_names(images: Sequence[Path], out: Path) -> None:
    """Raises ValueError if a map would replace another, or a file that `seglab predict` did not write."""
    taken = {image.resolve(): str(image) for image in images}
    for image in images:
        for path in (out / f"{image.stem}.png", out / f"{image.stem}_color.png"):
            there = taken.setdefault(path.resolve(), f"the map of {image}")
            if there == f"the map of {image}" and path.exists() and not _is_map(path):
                there = "a file that is no map of seglab predict"
            if there != f"the map of {image}":
                raise ValueError(
                    f"{path}, the map of {image}, would replace {there}; accepted is another name or --out"
                )


def save(picture: np.ndarray, path: Path, run: str) -> None:
    """Writes a map of a run as a PNG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = PngImagePlugin.PngInfo()
    text.add_text(MARK, run)
    with replacing(path, durable=False) as f:  # Ctrl-C leaves no half of a map
        Image.fromarray(picture).save(f, "PNG", pnginfo=text)


def _is_map(path: Path) -> bool:
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            return MARK in picture.info
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
