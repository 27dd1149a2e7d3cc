"""Images on which what leaves seglab is compared with the run: its own where they are at hand, else drawn ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seglab.config.schema import Config
from seglab.data.batches.windows import WindowGrid
from seglab.data.kept.image_set import ImageSet
from seglab.models.network import Network
from seglab.predict.evaluation.dataset import cache_of, data_of, positions
from seglab.run.folder import Run

SIDE = 256
"""Side of a drawn image."""


@dataclass(frozen=True)
class Samples:
    """A run's images on both sides of its split, as positions in `cache`; drawn ones stand for a cache that is None."""

    cache: ImageSet | WindowGrid | None
    training: Sequence[int]
    validation: Sequence[int]
    words: str
    """which images these are"""

    def dtype_of(self, net: Network) -> str:
        """Type of the pixels that a network was trained on. Raises ValueError where it is not known."""
        if self.cache is None and net.of_rasters:
            raise ValueError("the type of the run's pixels is not known; --data ROOT shows them")
        return "uint8" if self.cache is None else str(self.cache[0][0].dtype)

    def images(self, count: int, net: Network) -> list[np.ndarray]:
        """At most `count` validation images `[H,W,C]`, else so many drawn ones that a network takes."""
        if self.cache is not None:
            return [self.cache[i][0] for i in spread(self.validation, count)]
        if net.of_rasters:
            return drawn(net.low.numpy(), net.high.numpy(), count)
        return drawn(np.zeros(3), np.full(3, 255.0), count)


def samples_of(run: Run, config: Config, root: Path | None) -> Samples:
    """The run's images in `root`, else in the user's own cache. Raises ValueError where `root` does not hold them."""
    try:
        data = data_of(run, config, root)
        cache = cache_of(data)
        validation = positions(data, "val")
    except ValueError as e:
        if root is not None:
            raise
        return Samples(None, [], [], f"drawn images ({e})")
    return Samples(cache, data.sides[0], validation, f"validation images of {'the run' if root is None else root}")


def spread(positions: Sequence[int], count: int) -> list[int]:
    """At most `count` of them, evenly over all."""
    if len(positions) <= count:
        return list(positions)
    return [positions[i] for i in np.linspace(0, len(positions) - 1, count).round().astype(int)]


def drawn(low: np.ndarray, high: np.ndarray, count: int) -> list[np.ndarray]:
    """Images `float32 [SIDE,SIDE,C]` of blocks with noise, each band from its `low` to its `high` `[C]`."""
    out = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        blocks = np.kron(rng.random((SIDE // 32, SIDE // 32, len(low))), np.ones((32, 32, 1)))
        share = np.clip(blocks + rng.normal(0, 0.1, blocks.shape), 0, 1)
        out.append((low + share * (high - low)).astype(np.float32))
    return out
