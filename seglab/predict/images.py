"""Images and labels of a run's validation samples, from the user's own places: a run folder is not asked where."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seglab.config.foreign import build_reader
from seglab.config.read import of_data, own_cache
from seglab.config.schema import Config
from seglab.run.folder import Run

if TYPE_CHECKING:
    from seglab.data.kept.cache import PixelCache

Look = Callable[[str], tuple[np.ndarray, np.ndarray] | None]
"""Name -> image `[H,W,C]` and index map `uint8 [H,W]`, or None."""


def images_of(run: Run, config: Config, root: Path | None = None) -> Look:
    """Lookup in the data set `root`, or in the decoded copy that training made of data of the same content.

    Raises ValueError, one line, where there is neither.
    """
    return _decoded(run, config) if root is None else _read_from(root, config)


def decoded_copy(run: Run, config: Config) -> "tuple[str, PixelCache]":
    """The content of the data that a run was trained on, and their decoded copy. Raises ValueError, one line."""
    from seglab.data.kept.cache import cached
    from seglab.data.kept.decoding import Decoding

    content = run.environment().get("data") if run.environment_file.exists() else None
    if not content:
        raise ValueError("the run does not tell its content; --data ROOT shows it")
    how = Decoding(build_reader(config), config.classes, of_data(config).height_width)
    found = cached(own_cache(), content, how)
    if found is None:
        accepted = "accepted are --data ROOT, and another cache in SEGLAB_CACHE"
        raise ValueError(f"{own_cache()} holds no decoded copy of its data; {accepted}")
    return content, found


def _decoded(run: Run, config: Config) -> Look:
    from seglab.data.batches.windows import WindowGrid

    _, whole = decoded_copy(run, config)
    window = of_data(config).window
    cache = WindowGrid(whole, window) if window else whole
    place = {name: i for i, name in enumerate(cache.names)}
    return lambda name: cache[place[name]] if name in place else None


def _read_from(root: Path, config: Config) -> Look:
    from seglab.data.batches.windows import window_named
    from seglab.data.files.resize import resized

    reader = build_reader(config)
    pairs, faults = reader.pairs(root)
    if not pairs:
        raise ValueError(f"{root}: no pair of an image and a label in it: {'; '.join(faults[:3])}")
    how = of_data(config)
    found = {pair.name: pair for pair in pairs}

    @lru_cache(1)  # the windows of a scene are asked for one after the other
    def whole(name: str) -> tuple[np.ndarray, np.ndarray] | None:
        try:
            return resized(*reader.load(found[name], config.classes), how.height_width) if name in found else None
        except ValueError:
            return None  # a picture that can't be read

    def window(name: str) -> tuple[np.ndarray, np.ndarray] | None:
        scene, top, left = window_named(name)
        if how.window is None or (pixels := whole(scene)) is None:
            return None
        height, width = how.window
        image, mask = (array[top : top + height, left : left + width] for array in pixels)
        return image, mask

    return window if how.window else whole
