"""The scale at which a run maps an image: that at which it saw the images that it was trained on."""

from dataclasses import dataclass

import cv2
import numpy as np

from seglab.config.read import of_data, read
from seglab.data.resize import resized
from seglab.run.folder import Run

OTHERWISE = "a map has the size of its image, and --scale 1 maps it without resizing"


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


def scale_of(run: Run, asked: float | None = None) -> Scale:
    """The scale of a run, or the factor that is asked for."""
    if asked is not None:
        return Scale(factors=(asked, asked))
    resized_to = of_data(read(run)).height_width
    if resized_to is None:
        return Scale()
    height, width = resized_to
    known = run.environment() if run.environment_file.exists() else {}
    original = known.get("original_size")
    if original:
        factors = (height / original[0], width / original[1])
        both = " and ".join(dict.fromkeys(f"{factor:.4g}" for factor in factors))
        seen = f"{original[1]}x{original[0]}"
        words = f"images are mapped at {both} times their size, as the run's own of {seen} were"
        return Scale(factors, None, f"{words}; {OTHERWISE}")
    why = "of several sizes" if "original_size" in known else "whose size it does not tell"
    words = f"each image is resized to {width}x{height}, as the run's own, {why}, were"
    return Scale((1.0, 1.0), (height, width), f"{words}; {OTHERWISE}")
