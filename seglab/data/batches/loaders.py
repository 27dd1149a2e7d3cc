"""Samples of the cache, and the order of an epoch: what a DataLoader is made of."""

import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from seglab.data.augment.patch import Patch
from seglab.data.augment.transforms import Augmentation
from seglab.data.batches.samples import Key, Samples, Source
from seglab.data.batches.windows import WindowGrid
from seglab.data.kept.image_set import ImageSet

PIXELS_AT_ONCE = 2**24
"""Pixels of a batch that is scored, at most: 16 images of 1024 x 1024. Memory for more than these is some GiB.

A constant, and not what a device has free: how images are batched moves the last bits of their logits.
"""


def scored_at_once(sizes: Collection[tuple[int, int]], batch_size: int) -> int:
    """Images of a batch that is scored, where these are all the (height, width) of the images."""
    if len(sizes) != 1:
        return 1
    ((height, width),) = sizes
    return max(1, min(batch_size, PIXELS_AT_ONCE // (height * width)))


def equal_batches(sizes: Sequence[tuple[int, int]], batch_size: int) -> list[list[int]]:
    """Positions of the images of a (height, width) each, in batches of one size."""
    groups: dict[tuple[int, int], list[int]] = {}
    for i, size in enumerate(sizes):
        groups.setdefault(size, []).append(i)
    each = [(group, scored_at_once({size}, batch_size)) for size, group in groups.items()]
    return [group[k : k + many] for group, many in each for k in range(0, len(group), many)]


class Tiles(Samples):
    """Samples of the cache at `indices`, whole images or windows of its grid."""

    def __init__(
        self,
        cache: ImageSet | WindowGrid,
        indices: list[int],
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ):
        super().__init__(cache.whole, augmentation, seed)
        self.cache = cache
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def images(self) -> set[int]:
        return {self.cache.owners[i] for i in self.indices}

    def origin(self, key: Key) -> Source:
        index = self.indices[key[0] if isinstance(key, tuple) else key]
        top, left = self.cache.windows[index][1:3] if isinstance(self.cache, WindowGrid) else (0, 0)
        patch = Patch.of(top, left, *self.cache.sizes[index])
        return Source(self.cache.owners[index], patch, self.cache.names[index], index)


class EpochOrder(Sampler[tuple[int, int]]):
    """(position, epoch) of every sample once, in an order that is a function of (seed, epoch).

    The epoch `start[0]` begins after `start[1]` samples: a training that was stopped there has seen those. Of `world`
    processes each takes every `world`-th sample, so that with batches of B their k-th batches together are the k-th
    batch of B * world of one process. All must take equally many steps: the last ones take up to `world` - 1 of the
    first samples again, none where `world` divides `length`.
    """

    def __init__(self, length: int, seed: int, start: tuple[int, int] = (0, 0), rank: int = 0, world: int = 1):
        self.total = length
        self.seed = seed
        self.start = start
        self.epoch = start[0]
        self.rank = rank
        self.world = world

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.total // self.world)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.total)
        mine = np.resize(order, len(self) * self.world)[self.rank :: self.world]
        seen = self.start[1] if self.epoch == self.start[0] else 0
        return ((int(i), self.epoch) for i in mine[seen:])


def loader(samples: Dataset, workers: int, pin_memory: bool, **batches: Any) -> DataLoader:
    """A DataLoader of `batch_size` and `sampler`, or of a `batch_sampler`, that draws no number of torch's own."""
    return DataLoader(
        samples,
        **batches,
        num_workers=workers,
        worker_init_fn=_single_threaded,
        persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # private: a loader draws a seed at each epoch, which would move torch's own
    )


def _single_threaded(worker: int) -> None:
    cv2.setNumThreads(0)  # OpenCV's threads in every worker would fight for the cores
