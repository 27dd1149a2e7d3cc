"""All pixels of a data set, decoded once into one memory-mapped file that is named by their content."""

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from filelock import FileLock

from seglab.data.decoding import aligned, write
from seglab.data.folder import FolderReader, Pair

VERSION = 2  # of the file layout below and of what is written into it
log = logging.getLogger(__name__)


class PixelCache:
    """Images `[H,W,C]` of one type and index maps `uint8 [H,W]` by position, read from `folder` without a copy."""

    def __init__(self, folder: Path):
        index = json.loads((folder / "index.json").read_text())
        self.names: list[str] = index["names"]
        self.sizes: list[tuple[int, int]] = [(h, w) for h, w in index["sizes"]]
        self.class_counts = np.array(index["class_counts"], np.int64)
        self.originals: list[tuple[int, int]] = [
            (h, w) for h, w in index.get("originals", index["sizes"])
        ]  # before they were resized
        self.scenes: list[str | None] | None = index.get("scenes")  # a copy of an earlier version has none
        self.dtype = np.dtype(index.get("dtype", "uint8"))
        self.bands = int(index.get("bands", 3))
        sample = self.bands * self.dtype.itemsize + 1
        self._starts = np.cumsum([0, *(aligned(sample * h * w, self.dtype) for h, w in self.sizes)]).tolist()
        self._path = folder / "pixels.bin"
        if self._path.stat().st_size != self._starts[-1]:
            raise OSError(f"{self._path}: {self._path.stat().st_size} bytes, expected {self._starts[-1]}")
        self._bytes = np.memmap(self._path, np.uint8, "r")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        h, w = self.sizes[i]
        start = self._starts[i]
        middle = start + self.bands * self.dtype.itemsize * h * w
        image = self._bytes[start:middle].view(self.dtype).reshape(h, w, self.bands)
        return image, self._bytes[middle : middle + h * w].reshape(h, w)

    @property
    def owners(self) -> range:
        """The position of the pair of each image: its own."""
        return range(len(self))

    @property
    def whole(self) -> "PixelCache":
        """The cache of whole images: itself."""
        return self

    def of(self, pairs: Sequence[int]) -> list[int]:
        """Positions of the images of these pairs."""
        return list(pairs)

    def __getstate__(self) -> Path:
        return self._path.parent

    def __setstate__(self, folder: Path) -> None:
        self.__init__(folder)  # type: ignore[misc]  # a worker maps the file anew instead of receiving its bytes


class CacheFull(ValueError):
    """The disk of the cache has no room; one line says which, how much is needed, and how much is free."""

    def __init__(self, cache_dir: Path, needed: int, a_pixel: int):
        free = shutil.disk_usage(cache_dir).free
        need = f"{needed / 1e6:,.2f} MB ({a_pixel} bytes a pixel)"
        super().__init__(
            f"{cache_dir}: decoded data need {need}, {free / 1e6:,.2f} MB are free; "
            "accepted is another data.cache_dir (or SEGLAB_CACHE), or a smaller data.size"
        )


def open_cache(
    cache_dir: Path,
    content: str,
    pairs: Sequence[Pair],
    reader: FolderReader,
    classes: Mapping[str, str],
    size: tuple[int, int] | None,
) -> PixelCache:
    """The decoded pairs, each resized to `size` (H, W) if given: from `cache_dir`, or decoded now.

    A second process that needs the same waits for the first. Raises DataError with every pair that can't be used, and
    CacheFull where the pixels do not fit on the disk.
    """
    folder = _place(cache_dir, content, reader, classes, size)
    cache_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.exists():
            try:
                return PixelCache(folder)
            except (OSError, ValueError, KeyError) as e:
                log.warning("the cache %s is damaged (%s): made again", folder, e)
                shutil.rmtree(folder)
        needed, a_pixel = _needed(pairs, reader, size)
        if needed > shutil.disk_usage(cache_dir).free:
            raise CacheFull(cache_dir, needed, a_pixel)
        making = Path(tempfile.mkdtemp(dir=cache_dir, prefix="making-"))
        try:
            write(making, pairs, reader, classes, size)
            making.rename(folder)
        except OSError as e:
            if e.errno in (errno.ENOSPC, errno.EDQUOT):
                raise CacheFull(cache_dir, needed, a_pixel) from e
            raise
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return PixelCache(folder)


def _needed(pairs: Sequence[Pair], reader: FolderReader, size: tuple[int, int] | None) -> tuple[int, int]:
    """Bytes of all samples after resizing, and of a pixel; the headers say it before anything is decoded."""
    if size:
        a_pixel = reader.extent(pairs[0])[1]
        return len(pairs) * size[0] * size[1] * a_pixel, a_pixel
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        extents = list(pool.map(reader.extent, pairs))
    return sum(count * a_pixel for count, a_pixel in extents), max(a_pixel for _, a_pixel in extents)


def cached(
    cache_dir: Path, content: str, reader: FolderReader, classes: Mapping[str, str], size: tuple[int, int] | None
) -> PixelCache | None:
    """The decoded copy that `open_cache` made of data of this content, or None; reads no file of the data."""
    try:
        return PixelCache(_place(cache_dir, content, reader, classes, size))
    except (OSError, ValueError, KeyError):
        return None


def _place(
    cache_dir: Path, content: str, reader: FolderReader, classes: Mapping[str, str], size: tuple[int, int] | None
) -> Path:
    """The folder of data decoded in one way, named by all that its pixels depend on."""
    kind = f"{type(reader).__module__}.{type(reader).__qualname__}"
    facts = [VERSION, content, size, list(classes), kind, reader.key]
    # an unknown setting that JSON cannot hold is written as Python does
    return cache_dir / hashlib.sha256(json.dumps(facts, sort_keys=True, default=repr).encode()).hexdigest()[:24]
