"""Training straight from scenes: windows drawn for an epoch, and the fixed grid of windows that is scored."""

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from seglab.data.augment.patch import Patch
from seglab.data.augment.transforms import Augmentation
from seglab.data.batches.samples import Key, Samples, Source
from seglab.data.kept.image_set import ImageSet

BALANCES = ("classes",)
DRAW = 1
"""Tells the stream of random numbers that places windows from that of the transforms, (seed, epoch, index)."""


class Window(NamedTuple):
    """A part of a scene, which is given by its position in the cache."""

    scene: int
    top: int
    left: int
    height: int
    width: int

    @property
    def part(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def check_windows(windows: int | None, balance: str | None, crop: tuple[int, int] | None) -> None:
    """Raises ValueError where these settings do not fit together."""
    if balance is not None and balance not in BALANCES:
        raise ValueError(f"balance={balance}: accepted is null or {' or '.join(BALANCES)}")
    if balance is not None and windows is None:
        raise ValueError(f"balance={balance} without windows: accepted is also windows=, the number drawn in an epoch")
    if windows is None:
        return
    if windows < 1:
        raise ValueError(f"windows={windows}: accepted is 1 or more, or null")
    if crop is None:
        raise ValueError(f"windows={windows} without crop: accepted is also crop=, the size of a window")


def too_small(sizes: Collection[tuple[int, int]], crop: tuple[int, int]) -> list[str]:
    """A problem where a window of `crop` fits into no training scene of these sizes (H, W)."""
    if any(h >= crop[0] and w >= crop[1] for h, w in sizes):
        return []
    h, w = max(sizes, key=lambda size: size[0] * size[1])
    return [f"no training scene holds a window of {crop[1]}x{crop[0]}, the largest is {w}x{h}: set a smaller data.crop"]


def window_named(name: str) -> tuple[str, int, int]:
    """Scene, top and left of a window called `<scene>_<top>_<left>`; no scene for another name."""
    scene, *place = name.rsplit("_", 2)
    return (scene, int(place[0]), int(place[1])) if len(place) == 2 and "".join(place).isdecimal() else ("", 0, 0)


class WindowGrid:
    """The scenes of a cache as windows of `crop` (H, W) side by side, those at the right and lower border cut.

    It is read like a cache of images. Each pixel of a scene is in one window, called `<scene>_<top>_<left>`.
    """

    def __init__(self, scenes: ImageSet, crop: tuple[int, int]):
        self.whole = scenes
        self.crop = crop
        self.windows = [w for i, size in enumerate(scenes.sizes) for w in tiled(i, size, crop)]
        self.names = [f"{scenes.names[w.scene]}_{w.top}_{w.left}" for w in self.windows]
        self.sizes = [(w.height, w.width) for w in self.windows]
        self.owners = [w.scene for w in self.windows]
        self.originals = [scenes.originals[i] for i in self.owners]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        window = self.windows[i]
        return self.whole.part(window.scene, *window.part)

    @cached_property
    def class_counts(self) -> np.ndarray:
        """Pixels of each class in each window, `int64 [N,K]`."""
        return self.whole.remembered("windows", self.crop, self._counted)

    def _counted(self) -> np.ndarray:
        classes = range(self.whole.class_counts.shape[1])
        masks = (self[i][1] for i in range(len(self)))
        counts = [[np.count_nonzero(mask == k) for k in classes] for mask in masks]  # 10 times faster than bincount
        return np.array(counts, np.int64)

    def of(self, scenes: Sequence[int]) -> list[int]:
        """Positions of the windows of these scenes, in the order of the grid."""
        wanted = set(scenes)
        return [i for i, owner in enumerate(self.owners) if owner in wanted]


def tiled(scene: int, size: tuple[int, int], crop: tuple[int, int]) -> list[Window]:
    """Windows side by side that cover a scene of this size, row by row."""
    (height, width), (h, w) = size, crop
    return [
        Window(scene, top, left, min(h, height - top), min(w, width - left))
        for top in range(0, height, h)
        for left in range(0, width, w)
    ]


class DrawnWindows(Samples):
    """`count` windows an epoch out of `scenes`, augmented: each a function of (seed, epoch, position in the epoch).

    Every place of a window in every scene is equally likely. With `balance` a class is drawn from those that are there,
    a pixel from all pixels of it, and a place from those that hold the pixel.
    """

    def __init__(
        self,
        grid: WindowGrid,
        scenes: Sequence[int],
        augmentation: Augmentation,
        seed: int,
        count: int,
        balance: str | None = None,
    ):
        super().__init__(grid.whole, augmentation, seed)
        self.grid = grid
        self.scenes = list(scenes)
        self.count = count
        sizes = np.array([grid.whole.sizes[i] for i in self.scenes], np.int64)
        self._steps = np.maximum(sizes - grid.crop, 0) + 1  # places of a window along each side
        self._ends = np.cumsum(self._steps.prod(1))
        self._balance = Balance(grid, self.scenes) if balance else None

    def __len__(self) -> int:
        return self.count

    @property
    def images(self) -> set[int]:
        return set(self.scenes)

    def origin(self, key: Key) -> Source:
        assert isinstance(key, tuple)
        position, epoch = key
        window = self.window(epoch, position)
        name = f"{self.grid.whole.names[window.scene]}_{window.top}_{window.left}"
        return Source(window.scene, Patch.of(*window[1:]), name, position)

    def window(self, epoch: int, position: int) -> Window:
        """The window at this position of the epoch, smaller where its scene is."""
        rng = np.random.default_rng([self.seed, epoch, position, DRAW])
        scene, top, left = self._balance.draw(rng) if self._balance else self._anywhere(rng)
        height, width = self.grid.whole.sizes[scene]
        return Window(scene, top, left, min(self.grid.crop[0], height), min(self.grid.crop[1], width))

    def _anywhere(self, rng: np.random.Generator) -> tuple[int, int, int]:
        place = int(rng.integers(self._ends[-1]))
        k = int(np.searchsorted(self._ends, place, "right"))
        top, left = divmod(place - int(self._ends[k - 1] if k else 0), int(self._steps[k, 1]))
        return self.scenes[k], top, left


class Balance:
    """Draws a class that `scenes` hold, then one of its pixels in them, then a window that holds the pixel.

    The windows of the grid are the blocks in which pixels were counted: one of them is read to find the pixel.
    """

    def __init__(self, grid: WindowGrid, scenes: Sequence[int]):
        self.grid = grid
        self.blocks = grid.of(scenes)
        self._ends = grid.class_counts[self.blocks].cumsum(0)  # [blocks,K]
        self.classes = np.flatnonzero(self._ends[-1])

    def draw(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """Scene, top and left."""
        chosen = int(self.classes[rng.integers(len(self.classes))])
        ends = self._ends[:, chosen]
        rank = int(rng.integers(ends[-1]))
        k = int(np.searchsorted(ends, rank, "right"))
        block = self.grid.windows[self.blocks[k]]
        found = np.flatnonzero(self.grid[self.blocks[k]][1] == chosen)
        row, column = divmod(int(found[rank - int(ends[k - 1] if k else 0)]), block.width)
        size = self.grid.whole.sizes[block.scene]
        pixel = (block.top + row, block.left + column)
        top, left = (_holding(rng, *side) for side in zip(pixel, size, self.grid.crop, strict=True))
        return block.scene, top, left


def _holding(rng: np.random.Generator, pixel: int, length: int, crop: int) -> int:
    """The start of a window within 0..length that holds the pixel, all equally likely."""
    first, last = max(0, pixel - crop + 1), min(pixel, max(0, length - crop))
    return int(rng.integers(first, last + 1))
