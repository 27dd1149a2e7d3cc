"""Images of which no decoded copy is kept: each is decoded whenever it is asked for."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seglab.data.files.resize import resized
from seglab.data.folder import Pair
from seglab.data.kept.decoding import Decoding
from seglab.data.kept.digests import Stamp
from seglab.data.kept.image_set import ImageSet
from seglab.data.problems import file_name
from seglab.machine.files import replacing


class SourceImages(ImageSet):
    """The images of `pairs` as their reader gives them; `folder` remembers what follows from all.

    Raises ValueError for an image whose files have changed since it was made: the content of a run is one.
    """

    def __init__(
        self,
        index: Mapping[str, Any],
        pairs: Sequence[Pair],
        how: Decoding,
        folder: Path,
    ):
        super().__init__(index)
        self._folder = folder
        self._pairs = pairs
        self._how = how
        self._stamps = {path: Stamp.of(path.stat()) for pair in pairs for path in _files(pair)}

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        pair = self._pairs[i]
        image, mask = resized(*self._how.reader.load(pair, self._how.classes), self._how.size)
        return self._checked(pair, image, mask)

    def part(self, i: int, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        if self._how.size:
            return super().part(i, rows, columns)
        pair = self._pairs[i]
        return self._checked(pair, *self._how.reader.window(pair, self._how.classes, rows, columns))

    def _checked(self, pair: Pair, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same pixels, laid out as a copy has them."""
        for path in _files(pair):
            if Stamp.of(path.stat()) != self._stamps[path]:
                raise ValueError(f"{file_name(path)}: changed while it was in use; accepted are files that stay")
        return np.ascontiguousarray(image), np.ascontiguousarray(mask)

    def remembered(self, name: str, facts: Sequence[Any], make: Callable[[], np.ndarray]) -> np.ndarray:
        path = self._folder / f"{name}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]}.npy"
        with contextlib.suppress(OSError, ValueError, EOFError):
            return np.load(path, allow_pickle=False)
        made = make()
        with contextlib.suppress(OSError):  # without it the next start is slower
            self._folder.mkdir(exist_ok=True)
            with replacing(path) as file:
                np.save(file, made, allow_pickle=False)
        return made


def _files(pair: Pair) -> tuple[Path, ...]:
    return (pair.image, pair.label, *pair.beside)
