"""All pixels of a data set, decoded once into one memory-mapped file that is named by their content."""

import errno
import hashlib
import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from seglab.data.folder import Pair
from seglab.data.kept.decoding import Decoding, write
from seglab.data.kept.image_set import Decoded

VERSION = 2  # of the file layout below and of what is written into it

LARGE = 1_000_000_000
"""Bytes of decoded data from which a line tells their size before anything is decoded."""

log = logging.getLogger(__name__)


class PixelCache(Decoded):
    """Pixels in the file of a folder, mapped into memory."""

    def __init__(self, folder: Path):
        super().__init__(read_index(folder))
        self.path = folder / "pixels.bin"
        if self.path.stat().st_size != self._starts[-1]:
            raise OSError(f"{self.path}: {self.path.stat().st_size} bytes, expected {self._starts[-1]}")
        self.bytes = np.memmap(self.path, np.uint8, "r")

    def __getstate__(self) -> Path:
        return self.path.parent

    def __setstate__(self, folder: Path) -> None:
        self.__init__(folder)  # type: ignore[misc]  # a worker maps the file anew instead of receiving its bytes


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a folder: all that it tells of its images besides their pixels. Raises OSError and ValueError."""
    return json.loads((folder / "index.json").read_text())


class CacheFull(ValueError):
    """The disk of the cache has no room; one line says which, how much is needed, and how much is free."""

    def __init__(self, cache_dir: Path, needed: int, a_pixel: int):
        super().__init__(
            f"{cache_dir}: {need(needed, a_pixel)}, {amount(shutil.disk_usage(cache_dir).free)} are free; "
            "accepted is another data.cache_dir (or SEGLAB_CACHE), data.cache=none, or a smaller data.size"
        )


class CacheUnusable(ValueError):
    """The folder of the cache can't be written; one line says which, and why."""

    def __init__(self, cache_dir: Path, error: OSError):
        super().__init__(
            f"{cache_dir}: decoded data can't be kept there ({error.strerror}); accepted is a folder that can be "
            "written as data.cache_dir (or SEGLAB_CACHE), data.cache=none, or data.cache=memory"
        )


def need(needed: int, a_pixel: int) -> str:
    """The first half of a line on room for pixels."""
    return f"decoded data need {amount(needed)} ({a_pixel} bytes a pixel)"


def amount(number: int) -> str:
    """Bytes in words."""
    return f"{number / 1e9:,.1f} GB" if number >= LARGE else f"{number / 1e6:,.2f} MB"


def open_cache(
    cache_dir: Path,
    content: str,
    pairs: Sequence[Pair],
    how: Decoding,
    check: Callable[[], None] = lambda: None,
) -> PixelCache:
    """The decoded pairs, from `cache_dir` or decoded now.

    A second process that needs the same waits for the first. Raises DataError with every pair that can't be used,
    CacheFull where the pixels do not fit on the disk, and what `check` raises after decoding.
    """
    there = cached(cache_dir, content, how)
    if there is not None:
        return there  # also of a folder that can't be written
    folder = place(cache_dir, content, how)
    with locked(folder):
        if folder.exists():
            try:
                return PixelCache(folder)
            except (OSError, ValueError, KeyError) as e:
                log.warning("the cache %s is damaged (%s): made again", folder, e)
                shutil.rmtree(folder)
        _make(folder, pairs, how, check)
        return PixelCache(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from making a folder of the cache meanwhile. Raises CacheUnusable."""
    with ExitStack() as held:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(f"{folder}.lock"))
        except OSError as e:
            raise CacheUnusable(folder.parent, e) from e
        yield


def _make(
    folder: Path,
    pairs: Sequence[Pair],
    how: Decoding,
    check: Callable[[], None],
) -> None:
    """Decodes into `folder`, which appears whole or not at all. Raises CacheFull and CacheUnusable."""
    bytes_needed, a_pixel = needed(pairs, how)
    free = shutil.disk_usage(folder.parent).free
    if bytes_needed > free:
        raise CacheFull(folder.parent, bytes_needed, a_pixel)
    if bytes_needed >= LARGE:
        log.info("%s: %s, %s are free", folder.parent, need(bytes_needed, a_pixel), amount(free))
    making = _new(folder.parent)
    try:
        write(making, pairs, how)
        check()
        making.rename(folder)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CacheFull(folder.parent, bytes_needed, a_pixel) from e
        raise
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _new(cache_dir: Path) -> Path:
    try:
        return Path(tempfile.mkdtemp(dir=cache_dir, prefix="making-"))
    except OSError as e:
        raise CacheUnusable(cache_dir, e) from e


def needed(pairs: Sequence[Pair], how: Decoding) -> tuple[int, int]:
    """Bytes of all samples after resizing, and of a pixel; the headers say it before anything is decoded."""
    if how.size:
        a_pixel = how.reader.extent(pairs[0])[1]
        return len(pairs) * math.prod(how.size) * a_pixel, a_pixel
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        extents = list(pool.map(how.reader.extent, pairs))
    return sum(count * a_pixel for count, a_pixel in extents), max(a_pixel for _, a_pixel in extents)


def cached(cache_dir: Path, content: str, how: Decoding) -> PixelCache | None:
    """The decoded copy that `open_cache` made of data of this content, or None; reads no file of the data."""
    try:
        return PixelCache(place(cache_dir, content, how))
    except (OSError, ValueError, KeyError):
        return None


def place(cache_dir: Path, content: str, how: Decoding) -> Path:
    """The folder of data decoded in one way, named by all that its pixels depend on."""
    kind = f"{type(how.reader).__module__}.{type(how.reader).__qualname__}"
    facts = [VERSION, content, how.size, list(how.classes), kind, how.reader.key]
    # an unknown setting that JSON cannot hold is written as Python does
    return cache_dir / hashlib.sha256(json.dumps(facts, sort_keys=True, default=repr).encode()).hexdigest()[:24]
