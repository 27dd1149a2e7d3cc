"""Decoded images that lie on the device: a batch is a gather there, bit for bit the one that a loader would send."""

from collections.abc import Iterable, Sequence, Set
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from seglab.data.batches.samples import Key, Samples, Source
from seglab.data.kept.image_set import ImageSet
from seglab.labels import VOID

SHARE = 0.25
"""Of the memory that is free on a GPU before images lie there, the part that they may take.

The rest is for activations, which grow with the batch: a batch that fits should still do so beside the images.
"""

BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""The type as which values of so many bytes are moved: CUDA indexes no unsigned ones of more than one."""


def room(device: torch.device, taken: int = 0) -> int:
    """Bytes that images may take on a device, where others take `taken` of its memory.

    None on a CPU: there they are mapped from the file of the cache.
    """
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    return int((free + taken) * SHARE) - taken


def size(whole: ImageSet, positions: Iterable[int]) -> int:
    """Bytes of these images and their labels."""
    return _pixels(whole, positions) * (whole.bands * whole.dtype.itemsize + 1)


def _pixels(whole: ImageSet, positions: Iterable[int]) -> int:
    return sum(height * width for height, width in (whole.sizes[i] for i in positions))


class Resident:
    """Images and index maps at `positions`, pixel after pixel in one tensor each, `[pixels,C]` and `uint8 [pixels]`."""

    def __init__(self, whole: ImageSet, positions: Sequence[int], device: torch.device):
        count = _pixels(whole, positions)
        self.device = device
        self.size = size(whole, positions)
        self._dtype = torch.from_numpy(np.empty(0, whole.dtype)).dtype
        self._images = torch.empty(count, whole.bands, dtype=BITS[whole.dtype.itemsize], device=device)
        self._masks = torch.empty(count, dtype=torch.uint8, device=device)
        self._starts: dict[int, tuple[int, int]] = {}  # the first pixel of an image, and its width
        start = 0
        for i in positions:
            image, mask = whole[i]
            end = start + mask.size
            values = torch.from_numpy(np.array(image)).view(self._images.dtype)  # a copy: the cache is read-only
            self._images[start:end] = values.view(-1, whole.bands)
            self._masks[start:end] = torch.from_numpy(np.array(mask)).view(-1)
            self._starts[i] = start, mask.shape[1]
            start = end

    @property
    def positions(self) -> Set[int]:
        """Positions of the images that lie here."""
        return self._starts.keys()

    def batch(self, sources: Sequence[Source]) -> dict[str, Any]:
        """`image [B,H,W,C]`, `mask uint8 [B,H,W]` and `name` of samples of one size. It waits for no other work."""
        ((height, width),) = {source.patch.shape for source in sources}
        places = torch.tensor([self._steps(source) for source in sources])
        if self.device.type == "cuda":
            places = places.pin_memory()
        places = places.to(self.device, non_blocking=True)[:, :, None, None]
        start, by_row, by_column, top, left, bottom, right = places.unbind(1)  # [B,1,1] each
        y = torch.arange(height, device=self.device)[:, None]
        x = torch.arange(width, device=self.device)
        index = start + y * by_row + x * by_column  # [B,H,W]
        if all(source.patch.whole for source in sources):
            image, mask = self._images[index], self._masks[index]
        else:
            empty = (y < top) | (y >= bottom) | (x < left) | (x >= right)
            index = index.masked_fill(empty, 0)
            image = self._images[index].masked_fill_(empty[..., None], 0)
            mask = self._masks[index].masked_fill_(empty, VOID)
        return {"image": image.view(self._dtype), "mask": mask, "name": [source.name for source in sources]}

    def _steps(self, source: Source) -> list[int]:
        start, width = self._starts[source.image]
        first, *others = source.patch.steps(width)
        return [start + first, *others]


class Sources(Dataset):
    """Sources of samples, for a loader whose batches are gathered."""

    def __init__(self, samples: Samples):
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> Source:
        return self.samples.source(key)
