"""Images and labels of a run's validation samples, from the user's own places: a run folder is not asked where."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from seglab.config.foreign import build_reader
from seglab.config.read import of_data, own_cache
from seglab.config.schema import Config
from seglab.run.folder import Run

Look = Callable[[str], tuple[np.ndarray, np.ndarray] | None]
"""Name -> image `[H,W,C]` and index map `uint8 [H,W]`, or None."""


def images_of(run: Run, config: Config, root: Path | None = None) -> Look:
    """Lookup in the data set `root`, or in the decoded copy that training made of data of the same content.

    Raises ValueError, one line, where there is neither.
    """
    return _decoded(run, config) if root is None else _read_from(root, config)


def _decoded(run: Run, config: Config) -> Look:
    from seglab.data.cache import cached

    content = run.environment().get("data") if run.environment_file.exists() else None
    if not content:
        raise ValueError("the run does not tell its content; --data ROOT shows it")
    found = cached(own_cache(), content, build_reader(config), config.classes, of_data(config).height_width)
    if found is None:
        raise ValueError(f"{own_cache()} holds no copy of it; --data ROOT shows it")
    cache = found
    place = {name: i for i, name in enumerate(cache.names)}
    return lambda name: cache[place[name]] if name in place else None


def _read_from(root: Path, config: Config) -> Look:
    from seglab.data.resize import resized

    reader = build_reader(config)
    pairs, faults = reader.pairs(root)
    if not pairs:
        raise ValueError(f"{root}: no pair of an image and a label in it: {'; '.join(faults[:3])}")
    size = of_data(config).height_width
    found = {pair.name: pair for pair in pairs}

    def look(name: str) -> tuple[np.ndarray, np.ndarray] | None:
        try:
            return resized(*reader.load(found[name], config.classes), size) if name in found else None
        except ValueError:
            return None  # a picture that can't be read

    return look
