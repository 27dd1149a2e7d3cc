"""All images and labels of a data set by position, wherever their pixels are kept."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np


def aligned(size: int, dtype: np.dtype) -> int:
    """Bytes of a sample, rounded up so that the next one's values lie where a processor reads them at once."""
    return -(-size // dtype.itemsize) * dtype.itemsize


class ImageSet(ABC):
    """Images `[H,W,C]` of one type and index maps `uint8 [H,W]`, after resizing, and what an index tells of them."""

    def __init__(self, index: Mapping[str, Any]):
        self.names: list[str] = index["names"]
        self.sizes: list[tuple[int, int]] = [(h, w) for h, w in index["sizes"]]
        self.class_counts = np.array(index["class_counts"], np.int64)
        self.originals: list[tuple[int, int]] = [
            (h, w) for h, w in index.get("originals", index["sizes"])
        ]  # before they were resized
        self.scenes: list[str | None] | None = index.get("scenes")  # a copy of an earlier version has none
        self.dtype = np.dtype(index.get("dtype", "uint8"))
        self.bands = int(index.get("bands", 3))

    @abstractmethod
    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]: ...

    def part(self, i: int, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        """A window of an image and its index map."""
        image, mask = self[i]
        return image[rows, columns], mask[rows, columns]

    def remembered(self, name: str, facts: Sequence[Any], make: Callable[[], np.ndarray]) -> np.ndarray:
        """An array made of the pixels and `facts` alone: where reading pixels is dear, as an earlier start made it."""
        return make()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def owners(self) -> range:
        """The position of the pair of each image: its own."""
        return range(len(self))

    @property
    def whole(self) -> Self:
        """The set of whole images: itself."""
        return self

    def of(self, pairs: Sequence[int]) -> list[int]:
        """Positions of the images of these pairs."""
        return list(pairs)


class Decoded(ImageSet):
    """All pixels as `bytes`, one image with its index map after the other; nothing is copied."""

    bytes: np.ndarray

    def __init__(self, index: Mapping[str, Any]):
        super().__init__(index)
        sample = self.bands * self.dtype.itemsize + 1
        self._starts = np.cumsum([0, *(aligned(sample * h * w, self.dtype) for h, w in self.sizes)]).tolist()

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        h, w = self.sizes[i]
        start = self._starts[i]
        middle = start + self.bands * self.dtype.itemsize * h * w
        image = self.bytes[start:middle].view(self.dtype).reshape(h, w, self.bands)
        return image, self.bytes[middle : middle + h * w].reshape(h, w)


class InMemory(Decoded):
    """Pixels in the memory of this process, which the workers of a loader share by `fork`."""

    def __init__(self, index: Mapping[str, Any], pixels: Any):
        super().__init__(index)
        self.bytes = np.frombuffer(pixels, np.uint8)
        self.bytes.flags.writeable = False
