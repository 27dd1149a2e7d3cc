"""The memory that a map needs, known beforehand: a system without any left ends a process without a word."""

import copy
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from seglab.machine.memory import free_memory
from seglab.models.network import Network
from seglab.predict.tiles.tiling import Tiling

SIDES = (128, 256)
"""Sides of the images that are tried: from one to the other grows what grows with the image."""

SCRATCH = 1.25
"""Memory of a convolution besides its input and output, as a factor: measured 0.9 to 1.2 on the three models."""

TILES = (1024, 512, 256)
"""Sides of tiles, the first that fits is taken."""

BUDGET = 700_000_000
"""Bytes for a tile: with 0.9 GB of libraries and 0.2 GB of pixels and scores, a process stays under 2 GB."""

DECODED = 10
"""Bytes that decoding takes for each pixel: Pillow's four, three of the values, three of a copy."""


class Peak(TorchDispatchMode):
    """Mode that knows the most bytes of tensors, made within it, that were there at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._now = 0
        self._seen = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage() not in self._seen:
                storage = tensor.untyped_storage()
                self._seen[storage] = None
                self._add(storage.nbytes())
                weakref.finalize(storage, self._add, -storage.nbytes())
        return out

    def _add(self, change: int) -> None:
        self._now += change
        self.bytes = max(self.bytes, self._now)


def bytes_per_pixel(net: Network) -> float:
    """The most memory that a map takes at once in float32, for each pixel of its image: a constant of the network."""
    without_values = copy.deepcopy(net).to("meta")
    bands = net.bands
    peaks = []
    for side in SIDES:
        with Peak() as peak, torch.no_grad():
            type(net).forward(without_values, torch.empty(1, bands, side, side, device="meta"))
        peaks.append(peak.bytes)
    return SCRATCH * (peaks[1] - peaks[0]) / (SIDES[1] ** 2 - SIDES[0] ** 2)


def tiling_for(nets: Sequence[Network], tile: int | None = None, overlap: int | None = None) -> Tiling:
    """The tiles of a map: the largest of TILES whose memory is at most BUDGET in float32, wherever it is computed.

    Neighbours share what a pixel sees of its surroundings on either side if that is at most half of a tile, so that no
    map depends on its tiles; else a quarter. An eighth where a pixel sees all: docs/maps.md has the numbers.
    """
    divisor = max(net.divisor for net in nets)
    if tile is None:
        needed = max(bytes_per_pixel(net) for net in nets)
        fitting = [size for size in TILES if needed * size**2 <= BUDGET]
        tile = max(divisor, (fitting or TILES[-1:])[0] // divisor * divisor)
    if overlap is None:
        reaches = [net.reach for net in nets]
        overlap = tile // 8 // divisor * divisor
        if all(reach is not None for reach in reaches):
            overlap = tile // 4 // divisor * divisor
            exact = -(-(2 * max(filter(None, reaches)) + 1) // divisor) * divisor
            overlap = exact if 2 * exact <= tile else overlap
    tiling = Tiling(tile, overlap)
    tiling.check(nets)
    return tiling


def check_decoding(path: Path) -> None:
    """Raises ValueError if an image that is decoded whole, as all but TIFF are, needs more memory than is free."""
    try:
        with Image.open(path) as picture:
            pixels = 0 if picture.format == "TIFF" else picture.height * picture.width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return  # whoever reads it says what is wrong with it
    free = free_memory()
    if free is not None and DECODED * pixels > free:
        needed = f"reading {pixels / 1e6:.0f} million pixels needs {DECODED * pixels / 1e9:.1f} GB of memory"
        raise ValueError(f"{path}: {needed}, {free / 1e9:.1f} are free; a TIFF is read in parts")
