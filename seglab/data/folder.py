"""The reader of a folder `root/data/*` + `root/label/*`: which pairs there are, and the pixels of one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from seglab.data.files.listing import SUFFIXES, images_by_name, natural
from seglab.data.files.pixels import Pixels, pixels, read_image, read_label
from seglab.data.files.rasters import metres
from seglab.data.files.scenes import read_scenes
from seglab.data.files.stored import pixel_count
from seglab.data.problems import DataError, file_name
from seglab.labels import VOID, LabelError, check_palette, index_map, index_map_from_colors

__all__ = ["SUFFIXES", "DataError", "FolderReader", "Pair", "natural", "pixels"]

GEOREFERENCED = (".tif", ".tiff")
"""Suffixes of images that may say where on the earth they lie."""


@dataclass(frozen=True)
class Pair:
    """One image and its label; `scene` says from which scene it was cut, where that is known."""

    name: str
    image: Path
    label: Path
    scene: str | None = None
    beside: tuple[Path, ...] = ()
    """further files that its pixels depend on"""


class FolderReader:
    """Reads pairs of equal names from two folders.

    `palette` null: a label holds class ids, in one channel or in three equal ones. Else it holds colours, and `palette`
    maps each `#rrggbb` to a class name or to `void`.
    """

    bands: ClassVar[Sequence[int] | None] = None
    """Numbers of the bands, from 1, that its images have; None: they are RGB of 8 bits."""

    def __init__(self, palette: dict[str, str] | None = None, image_folder: str = "data", label_folder: str = "label"):
        self.palette = palette
        self.image_folder = image_folder
        self.label_folder = label_folder

    @property
    def key(self) -> dict[str, Any]:
        """All settings that pixels may depend on, as JSON holds them: readers that differ in it share no cache."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def check(self, classes: Mapping[str, str]) -> None:
        """Raises ValueError, one line, where the settings do not fit the classes."""
        if self.palette is not None:
            check_palette(self.palette, classes)

    def pairs(self, root: Path) -> tuple[list[Pair], list[str]]:
        """All pairs in natural order of their names, and every problem found: one line each."""
        problems: list[str] = []
        images = images_by_name(root / self.image_folder, problems)
        labels = images_by_name(root / self.label_folder, problems)
        paired = self._paired(images, labels, problems)
        names = sorted(paired, key=natural)
        scenes = read_scenes(root / "scenes.csv", names, problems)
        return [Pair(n, *paired[n], scenes.get(n)) for n in names], sorted(problems, key=natural)

    def _paired(
        self, images: Mapping[str, Path | None], labels: Mapping[str, Path | None], problems: list[str]
    ) -> dict[str, tuple[Path, Path]]:
        """Image and label of each name that has both; a problem for each that has one."""
        for has, lacks, folder in ((images, labels, self.label_folder), (labels, images, self.image_folder)):
            alone = [path for name, path in has.items() if path and name not in lacks]
            problems += [f"{file_name(path)}: there is no {folder}/{path.stem}.*" for path in alone]
        both = {name: (image, labels.get(name)) for name, image in images.items()}
        return {name: (image, label) for name, (image, label) in both.items() if image and label}

    def extent(self, pair: Pair) -> tuple[int, int]:
        """Number of pixels, and bytes of one decoded with its label, by the header; (0, 0) where it can't be read."""
        return pixel_count(pair.image), 4

    def metres(self, pair: Pair) -> float | None:
        """Side of a pixel of the image in metres; None where it is unknown."""
        return metres(pair.image) if pair.image.suffix.lower() in GEOREFERENCED else None

    def image(self, pair: Pair) -> Pixels:
        """The image of a pair. Raises ValueError that names the file and the reason."""
        return read_image(pair.image)

    def label(self, pair: Pair, classes: Mapping[str, str]) -> np.ndarray:
        """Ids or colours of the label's file. Raises ValueError that names the file and the reason."""
        return read_label(pair.label, colors=bool(self.palette), num_classes=len(classes))

    def mask(self, pair: Pair, label: np.ndarray, classes: Mapping[str, str]) -> np.ndarray:
        """The index map `uint8 [H,W]` of those ids or colours. Raises ValueError that names file and reason."""
        try:
            if self.palette:
                return index_map_from_colors(label, self.palette, classes)
            return index_map(label, len(classes))
        except LabelError as e:
            raise ValueError(f"{file_name(pair.label)}: {e}") from e

    def strips(self, pair: Pair, classes: Mapping[str, str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Parts of what `load` gives, from the top: of a large image no more than one need be in memory."""
        yield self.load(pair, classes)

    def whole_only(self, pairs: Sequence[Pair]) -> str | None:
        """Why `window` decodes whole images of these pairs; None where it reads no more than the window."""
        return "these images are decoded whole"

    def window(
        self, pair: Pair, classes: Mapping[str, str], rows: slice, columns: slice
    ) -> tuple[np.ndarray, np.ndarray]:
        """The part of what `load` gives that lies in a window."""
        image, mask = self.load(pair, classes)
        return image[rows, columns], mask[rows, columns]

    def load(self, pair: Pair, classes: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray]:
        """Image `uint8 [H,W,3]` and index map `uint8 [H,W]`, VOID where the image is transparent.

        Raises ValueError that names the file and the reason.
        """
        image = self.image(pair)
        mask = self.mask(pair, self.label(pair, classes), classes)
        check_sizes(pair, image, mask)
        return image.values, covered(mask, image)


def check_sizes(pair: Pair, image: Pixels, mask: np.ndarray) -> None:
    """Raises ValueError where a mask `[H,W]` does not cover its image."""
    (h, w), (y, x) = image.values.shape[:2], mask.shape
    if (h, w) != (y, x):
        turned = f" (turned by its orientation {image.orientation})" if image.orientation != 1 else ""
        raise ValueError(f"{file_name(pair.image)}: the image is {w}x{h}{turned}, its label {x}x{y}")


def covered(mask: np.ndarray, image: Pixels) -> np.ndarray:
    """The mask `[H,W]` with VOID where the image is transparent."""
    return mask if image.hidden is None else np.where(image.hidden, np.uint8(VOID), mask)


def median_metres(reader: FolderReader, pairs: Sequence[Pair]) -> float | None:
    """Median of the metres a pixel of those images that tell it; None where none does."""
    found = [side for side in map(reader.metres, pairs) if side is not None]
    return float(np.median(found)) if found else None
