"""The scale at which a run maps an image: that at which it saw the images that it was trained on."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from seglab.config.schema import Config
from seglab.data.cache import resized
from seglab.data.folder import pixels
from seglab.predict.files import height_and_width

LOOKED_AT = 200
"""Training images whose sizes are compared."""


@dataclass(frozen=True)
class Scale:
    """Sizes at which images are mapped: `factors` of their own (height, width), or one `size` for all."""

    factors: tuple[float, float] = (1.0, 1.0)
    size: tuple[int, int] | None = None
    words: str | None = None
    """What a user must know of it, where that is not nothing."""

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width at which an image of this size is mapped."""
        return self.size or (max(1, round(height * self.factors[0])), max(1, round(width * self.factors[1])))

    def shrunk(self, image: np.ndarray) -> np.ndarray:
        """The image `uint8 [H,W,3]` resized as training resizes; itself at its own scale."""
        height, width = image.shape[:2]
        return resized(image, np.zeros((height, width), np.uint8), self.of(height, width))[0]


def back(prediction: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map `uint8 [H,W]` at the size of its image: each pixel has the class of the nearest one."""
    if prediction.shape == (height, width):
        return prediction
    return cv2.resize(prediction, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def scale_of(config: Config, asked: float | None = None) -> Scale:
    """The scale of a run, or the factor that is asked for."""
    if asked is not None:
        return Scale(factors=(asked, asked))
    size = config.data.get("size")
    if size is None:
        return Scale()
    height, width = (size, size) if isinstance(size, int) else size
    seen = originals(config)
    if len(seen) == 1:
        ((full_height, full_width),) = seen
        factors = (height / full_height, width / full_width)
        both = " and ".join(dict.fromkeys(f"{factor:.4g}" for factor in factors))
        words = f"images are mapped at {both} times their size, as the run's own of {full_width}x{full_height} were; "
    else:
        factors = (1.0, 1.0)
        why = "of several sizes" if seen else "that are not at data.root any more"
        words = f"each image is resized to {width}x{height}, as the run's own, {why}, were; "
    words += "a map has the size of its image, and --scale 1 maps it without resizing"
    return Scale(factors, None if len(seen) == 1 else (height, width), words)


def originals(config: Config) -> set[tuple[int, int]]:
    """Sizes of the images that a run was trained on, before `data.size`; none where they can't be found."""
    root, reader = config.data.get("root"), config.data.get("reader")
    folder = reader.get("image_folder", "data") if isinstance(reader, Mapping) else "data"
    if not isinstance(root, str) or not isinstance(folder, str):
        return set()
    found: dict[tuple[int, int], Path] = {}
    paths = Path(root).expanduser() / folder
    for path in islice(sorted(paths.iterdir()), LOOKED_AT) if paths.is_dir() else ():
        with contextlib.suppress(OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            found[height_and_width(path)] = path
    if len(found) == 1:  # a file may say that it is to be turned: the reader knows
        return {pixels(path, "RGB").shape[:2] for path in found.values()}
    return set(found)
