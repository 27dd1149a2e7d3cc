"""A sample of the cache: where its pixels lie, and the tensors of them."""

from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset

from seglab.data.cache import PixelCache
from seglab.data.patch import Patch
from seglab.data.transforms import Augmentation
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


class Samples(Dataset):
    """Samples of whole images, each from its source; augmented when asked by (position, epoch)."""

    def __init__(self, whole: PixelCache, augmentation: Augmentation | None, seed: int):
        self.whole = whole
        self.augmentation = augmentation
        self.seed = seed

    def origin(self, key: Key) -> Source:
        """The source before it is augmented."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    @property
    def images(self) -> set[int]:
        """Positions of the whole images of which samples may be."""
        raise NotImplementedError

    @property
    def only_move(self) -> bool:
        """True if every sample is pixels of its image as they are: then `source` tells it whole."""
        return self.augmentation is None or self.augmentation.only_moves

    def source(self, key: Key) -> Source:
        """The source of a sample that only moves pixels."""
        origin = self.origin(key)
        if self.augmentation is None or not isinstance(key, tuple):
            return origin
        return origin._replace(patch=self.augmentation.draw(origin.patch, self.seed, key[1], origin.number))

    def __getitem__(self, key: Key) -> dict[str, Any]:
        if self.only_move or not isinstance(key, tuple):
            source = self.source(key)
            image, mask = self.whole[source.image]
            image, mask = source.patch.of_pixels(image, 0), source.patch.of_pixels(mask, VOID)
        else:
            assert self.augmentation is not None
            source = self.origin(key)
            image, mask = (pixels[source.patch.slices] for pixels in self.whole[source.image])
            image, mask = self.augmentation(image, mask, self.seed, key[1], source.number)
            image, mask = image.copy(), mask.copy()  # the cache is mapped read-only
        return {"image": torch.from_numpy(image), "mask": torch.from_numpy(mask), "name": source.name}
