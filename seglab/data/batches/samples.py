"""A sample of the cache: where its pixels lie, and the tensors of them."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from seglab.data.augment.patch import Patch
from seglab.data.augment.transforms import Augmentation
from seglab.data.kept.image_set import ImageSet
from seglab.labels import VOID

Key = int | tuple[int, int]
"""The position of a sample, or (position, epoch) of an augmented one."""


class Source(NamedTuple):
    """The image of a sample by its position among the whole ones, the part that is seen, its name, and its number.

    Draws are a function of the number.
    """

    image: int
    patch: Patch
    name: str
    number: int


class Samples(Dataset, ABC):
    """Samples of whole images, each from its source; augmented when asked by (position, epoch)."""

    def __init__(self, whole: ImageSet, augmentation: Augmentation | None, seed: int):
        self.whole = whole
        self.augmentation = augmentation
        self.seed = seed

    @abstractmethod
    def origin(self, key: Key) -> Source:
        """The source before it is augmented."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def images(self) -> set[int]:
        """Positions of the whole images of which samples may be."""

    @property
    def only_move(self) -> bool:
        """True if every sample is pixels of its image as they are: then `source` tells it whole."""
        return self.augmentation is None or self.augmentation.only_moves

    def source(self, key: Key) -> Source:
        """The source of a sample that only moves pixels."""
        return self._drawn(self.origin(key), key)

    def _drawn(self, origin: Source, key: Key) -> Source:
        if self.augmentation is None or not isinstance(key, tuple):
            return origin
        return origin._replace(patch=self.augmentation.draw(origin.patch, self.seed, key[1], origin.number))

    def __getitem__(self, key: Key) -> dict[str, Any]:
        origin = self.origin(key)
        image, mask = self._read(origin)
        if self.only_move or not isinstance(key, tuple):
            patch = self._drawn(origin, key).patch.seen_from(*origin.patch.box[:2])
            image, mask = patch.of_pixels(image, 0), patch.of_pixels(mask, VOID)
        else:
            assert self.augmentation is not None
            image, mask = self.augmentation(image, mask, self.seed, key[1], origin.number)
            image, mask = image.copy(), mask.copy()  # the cache is mapped read-only
        return {"image": torch.from_numpy(image), "mask": torch.from_numpy(mask), "name": origin.name}

    def _read(self, origin: Source) -> tuple[np.ndarray, np.ndarray]:
        """Its pixels and labels before they are augmented: of a window no more than its own."""
        if origin.patch.shape == self.whole.sizes[origin.image]:
            return self.whole[origin.image]
        return self.whole.part(origin.image, *origin.patch.slices)
