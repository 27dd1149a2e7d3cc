"""Pixels of files into one file: decoded by several threads, written in the order of the pairs."""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from seglab.data.files.resize import resized
from seglab.data.folder import FolderReader, Pair
from seglab.data.kept.image_set import aligned
from seglab.data.problems import DataError, file_name
from seglab.labels import VOID

LARGE = 1 << 26
"""Pixels of an image beyond which it is decoded in strips, where its reader can, and by itself."""

Kind = tuple[np.dtype, int]
"""Type of an image's values, and number of its bands."""

Loaded = tuple[tuple[int, ...] | None, Iterable[tuple[np.ndarray, np.ndarray]]]
"""The size of a sample before it was resized, None for that of its parts; and the parts."""

Keep = Callable[[memoryview | bytes], int]
"""Takes the next bytes, and tells their number."""

log = logging.getLogger(__name__)


class Decoding(NamedTuple):
    """The way from pairs to pixels: their reader, the classes of labels, and the (H, W) that they are resized to."""

    reader: FolderReader
    classes: Mapping[str, str]
    size: tuple[int, int] | None


def write(
    folder: Path,
    pairs: Sequence[Pair],
    how: Decoding,
) -> None:
    """Writes `pixels.bin` and `index.json` of a cache. Raises DataError with every pair that can't be used."""
    with open(folder / "pixels.bin", "wb") as f:
        index = decode(pairs, how, f.write)
        f.flush()
        os.fsync(f.fileno())
    (folder / "index.json").write_text(json.dumps(index))
    log.info("decoded %d pairs once into %s", len(pairs), folder.parent)


def decode(
    pairs: Sequence[Pair],
    how: Decoding,
    keep: Keep,
) -> dict[str, Any]:
    """The index of all pairs, whose pixels are handed to `keep` in order.

    Raises DataError with every pair that can't be used.
    """
    load = partial(_loaded, how=how)
    problems: list[str] = []
    kind: Kind | None = None
    index: dict[str, list] = {"names": [], "scenes": [], "sizes": [], "class_counts": [], "originals": []}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        loaded = _few_at_a_time(pool, load, pairs)
        for pair, got in zip(pairs, tqdm(loaded, "decoding", len(pairs), disable=not sys.stderr.isatty()), strict=True):
            try:
                if isinstance(got, ValueError):
                    raise got
                original, parts = got
                shape, counts, kind = _append(keep, pair, parts, kind)
            except ValueError as e:
                problems.append(str(e))
                continue
            index["names"].append(pair.name)
            index["scenes"].append(pair.scene)
            index["sizes"].append(shape)
            index["originals"].append(original or shape)
            index["class_counts"].append(counts[: len(how.classes)].tolist())
    if problems:
        raise DataError(pairs[0].image.parent.parent, problems)
    assert kind is not None
    return index | {"dtype": kind[0].name, "bands": kind[1]}


def _loaded(pair: Pair, how: Decoding) -> Loaded | ValueError:
    """A decoded pair, or why it can't be used."""
    try:
        if how.size is None and how.reader.extent(pair)[0] > LARGE:
            return None, how.reader.strips(pair, how.classes)  # which are read one after the other
        image, mask = how.reader.load(pair, how.classes)
        return mask.shape, [resized(image, mask, how.size)]
    except ValueError as e:
        return e


def _append(
    keep: Keep, pair: Pair, parts: Iterable[tuple[np.ndarray, np.ndarray]], kind: Kind | None
) -> tuple[tuple[int, ...], np.ndarray, Kind]:
    """Keeps a sample given in parts from the top: its size, pixels of each class index, and type and bands.

    Raises ValueError for a type or bands other than `kind`, those of the samples before.
    """
    masks: list[np.ndarray] = []
    counts = np.zeros(VOID + 1, np.int64)
    written = 0
    for image, mask in parts:
        own = (image.dtype, image.shape[2])
        kind = kind or own
        if why := other_kind(pair.image, own, kind):
            raise ValueError(why)
        written += keep(np.ascontiguousarray(image).data)
        counts += np.bincount(mask.ravel(), minlength=VOID + 1)
        masks.append(mask)
    assert kind is not None
    whole = np.concatenate(masks) if len(masks) > 1 else masks[0]
    written += keep(np.ascontiguousarray(whole).data)
    keep(bytes(aligned(written, kind[0]) - written))
    return whole.shape, counts, kind


def _few_at_a_time(pool: ThreadPoolExecutor, function, items: Sequence):
    """`map` that keeps only a handful of results waiting: scenes are large."""
    ahead = 2 * (os.cpu_count() or 1)
    futures = [pool.submit(function, item) for item in items[:ahead]]
    for i in range(len(items)):
        yield futures[i].result()
        futures[i] = None  # type: ignore[call-overload]  # lets the pixels go
        if i + ahead < len(items):
            futures.append(pool.submit(function, items[i + ahead]))


def other_kind(path: Path, kind: Kind, first: Kind) -> str | None:
    """The problem of an image whose type and bands are not those of the images before it."""
    if kind == first:
        return None
    ours, theirs = (f"{bands} bands of {dtype.name}" for dtype, bands in (kind, first))
    return f"{file_name(path)}: {ours}, where the images before have {theirs}: accepted is one type for all"
