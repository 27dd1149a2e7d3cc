"""All pixels of a data set, decoded once into one memory-mapped file that is named by their content."""

import errno
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from seglab.data.folder import FolderReader, Pair
from seglab.data.problems import DataError, file_name
from seglab.data.resize import resized
from seglab.labels import VOID

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
        self.dtype = np.dtype(index.get("dtype", "uint8"))
        self.bands = int(index.get("bands", 3))
        sample = self.bands * self.dtype.itemsize + 1
        self._starts = np.cumsum([0, *(_aligned(sample * h * w, self.dtype) for h, w in self.sizes)]).tolist()
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

    def __getstate__(self) -> Path:
        return self._path.parent

    def __setstate__(self, folder: Path) -> None:
        self.__init__(folder)  # type: ignore[misc]  # a worker maps the file anew instead of receiving its bytes


def _aligned(size: int, dtype: np.dtype) -> int:
    """Bytes of a sample, rounded up so that the next one's values lie where a processor reads them at once."""
    return -(-size // dtype.itemsize) * dtype.itemsize


class CacheFull(ValueError):
    """The disk of the cache has no room; one line says which, how much is needed, and how much is free."""

    def __init__(self, cache_dir: Path, needed: int, a_pixel: int):
        free = shutil.disk_usage(cache_dir).free
        need = f"{needed / 1e6:,.2f} MB ({a_pixel} bytes a pixel)"
        super().__init__(
            f"{cache_dir}: decoded data need {need}, {free / 1e6:,.2f} MB are free; "
            "accepted is another data.cache_dir (or SEGLAB_CACHE), or a smaller data.size"
        )


def content_hash(pairs: Sequence[Pair]) -> str:
    """Hash of names, scenes and the bytes of every file: the same wherever and whenever it is computed.

    Raises DataError with every file that can't be read.
    """
    problems: list[str] = []

    @cache  # one file may hold the labels of all
    def digest(path: Path) -> str:
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as e:
            problems.append(f"{file_name(path)}: not readable ({e.strerror})")
            return ""

    def row(pair: Pair) -> list[str | None]:
        files = [pair.image, pair.label, *pair.beside]
        return [pair.name, pair.scene, *map(digest, files)]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(row, pairs))
    if problems:
        raise DataError(pairs[0].image.parent.parent, sorted(problems))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


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
            _write(making, pairs, reader, classes, size)
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


def _write(
    folder: Path,
    pairs: Sequence[Pair],
    reader: FolderReader,
    classes: Mapping[str, str],
    size: tuple[int, int] | None,
) -> None:
    def load(pair: Pair) -> tuple[tuple[int, ...], np.ndarray, np.ndarray] | str:
        try:
            image, mask = reader.load(pair, classes)
            return mask.shape, *resized(image, mask, size)
        except ValueError as e:
            return str(e)

    problems: list[str] = []
    kind: tuple[np.dtype, int] | None = None
    index: dict[str, list] = {"names": [], "sizes": [], "class_counts": [], "originals": []}
    with ThreadPoolExecutor(os.cpu_count()) as pool, open(folder / "pixels.bin", "wb") as f:
        loaded = _few_at_a_time(pool, load, pairs)
        for pair, got in zip(pairs, tqdm(loaded, "decoding", len(pairs), disable=not sys.stderr.isatty()), strict=True):
            if isinstance(got, str):
                problems.append(got)
                continue
            original, image, mask = got
            kind = kind or (image.dtype, image.shape[2])
            if why := other_kind(pair.image, (image.dtype, image.shape[2]), kind):
                problems.append(why)
                continue
            for array in (image, mask):
                f.write(np.ascontiguousarray(array).data)
            f.write(bytes(_aligned(image.nbytes + mask.nbytes, image.dtype) - image.nbytes - mask.nbytes))
            counts = np.bincount(mask.ravel(), minlength=VOID + 1)
            index["names"].append(pair.name)
            index["sizes"].append(mask.shape)
            index["originals"].append(original)
            index["class_counts"].append(counts[: len(classes)].tolist())
        f.flush()
        os.fsync(f.fileno())
    if problems:
        raise DataError(pairs[0].image.parent.parent, problems)
    assert kind is not None
    facts = {"dtype": kind[0].name, "bands": kind[1]}
    (folder / "index.json").write_text(json.dumps(index | facts))
    log.info("decoded %d pairs once into %s", len(pairs), folder.parent)


def _few_at_a_time(pool: ThreadPoolExecutor, function, items: Sequence):
    """`map` that keeps only a handful of results waiting: scenes are large."""
    ahead = 2 * (os.cpu_count() or 1)
    futures = [pool.submit(function, item) for item in items[:ahead]]
    for i in range(len(items)):
        yield futures[i].result()
        futures[i] = None  # type: ignore[call-overload]  # lets the pixels go
        if i + ahead < len(items):
            futures.append(pool.submit(function, items[i + ahead]))


def other_kind(path: Path, kind: tuple[np.dtype, int], first: tuple[np.dtype, int]) -> str | None:
    """The problem of an image whose type and bands are not those of the images before it."""
    if kind == first:
        return None
    ours, theirs = (f"{bands} bands of {dtype.name}" for dtype, bands in (kind, first))
    return f"{file_name(path)}: {ours}, where the images before have {theirs}: accepted is one type for all"


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
