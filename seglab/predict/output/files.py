"""The files of `seglab predict`: which images are meant, and maps that replace only maps."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from seglab.data.files.listing import RASTERS, natural
from seglab.data.files.rasters import opened
from seglab.machine.extras import installed, optional

MARK = "seglab"
"""Key of the text in a map by which it is known; its value is the run's folder."""

SQLITE = b"SQLite format 3\0"


@contextmanager
def large_pictures() -> Iterator[None]:
    """Pillow does not warn of a large image; it still refuses one of more than 178 million pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def images_in(paths: Sequence[Path]) -> list[Path]:
    """The images themselves, and those of folders by name, without maps. Raises ValueError for a folder of none."""
    found = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        files = [p for p in path.iterdir() if p.suffix.lower() in RASTERS and p.name[0] != "."]
        images = sorted((p for p in files if not is_map(p)), key=lambda p: natural(p.name))
        if not images:
            raise ValueError(f"{path}: no images in it; accepted are {', '.join(RASTERS)}")
        found += images
    return found


def check_names(files: Mapping[Path, Sequence[Path]]) -> None:
    """Raises ValueError if a file of a map would replace another's, or a file that `seglab predict` did not write."""
    taken = {image.resolve(): str(image) for image in files}
    stems: dict[str, Path] = {}
    for image, made in files.items():
        for path in made:
            mine = f"the map of {image}"
            there = taken.setdefault(path.resolve(), mine)
            other = stems.setdefault(image.stem, image)
            there = f"the map of {other}" if there == mine and other != image else there
            if there == mine and path.exists() and not is_map(path):
                there = "a file that is no map of seglab predict"
            if there != mine:
                raise ValueError(f"{path}, {mine}, would replace {there}; accepted is another name or --out")


def is_map(path: Path) -> bool:
    """True if `seglab predict` wrote this file."""
    kinds = {".tif": _is_tiff, ".gpkg": _is_geopackage}
    return kinds.get(path.suffix, _is_png)(path)


def _is_png(path: Path) -> bool:
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            return MARK in picture.info
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False


def _is_tiff(path: Path) -> bool:
    if not installed("rasterio"):
        return False
    try:
        with opened(path) as source:
            return MARK in source.tags()
    except ValueError:
        return False


def _is_geopackage(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if file.read(len(SQLITE)) != SQLITE or not installed("pyogrio"):
                return False
        about = optional("pyogrio", "a GeoPackage").read_info(path, layer="map")
    except (OSError, ValueError, RuntimeError):
        return False
    return MARK in (about.get("dataset_metadata") or {})
