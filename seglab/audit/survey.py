"""Reads every pair once, whatever is wrong with it: what its label holds, and how to recognise its picture again."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from seglab.audit.features import Features, extract, working_scale
from seglab.audit.fingerprint import Fingerprint, fingerprint
from seglab.data.folder import Pair, pixels
from seglab.labels import VOID, LabelError, index_map, rgb


@dataclass
class Record:
    """One pair: `side` is train, val or unknown; `counts [K]` are pixels of each class, None without a usable label."""

    pair: Pair
    side: str
    size: tuple[int, int] | None = None  # width, height
    counts: np.ndarray | None = None
    void: int = 0
    wrong: dict[str, int] = field(default_factory=dict)  # pixels of each value or colour that is no class
    faults: list[str] = field(default_factory=list)
    fingerprint: Fingerprint | None = None
    features: Features | None = None

    @property
    def shares(self) -> np.ndarray | None:
        """Share of each class `[K]` in the labelled pixels."""
        total = 0 if self.counts is None else self.counts.sum()
        return self.counts / total if self.counts is not None and total else None


class Source:
    """Pairs by position, decoded at full resolution, with pixels of no class as VOID."""

    def __init__(self, pairs: Sequence[Pair], reader: Any, classes: Mapping[str, str]):
        self.pairs, self.reader, self.classes = pairs, reader, classes

    def load(self, i: int) -> tuple[np.ndarray | None, np.ndarray | None, dict[str, int], list[str]]:
        """Image `[H,W,3]` and index map `[H,W]` (None if unusable), pixels of each wrong value, and every fault."""
        pair, faults = self.pairs[i], []
        try:
            return *self.reader.load(pair, self.classes), {}, []
        except ValueError as e:
            faults.append(str(e))
        palette = getattr(self.reader, "palette", None)
        found: list[np.ndarray | None] = []
        for path, mode in ((pair.image, "RGB"), (pair.label, "RGB" if palette else None)):
            try:
                found.append(pixels(path, mode))
            except ValueError as e:
                found.append(None)
                faults.append(str(e))
        image, label = found
        if label is None:
            return image, None, {}, list(dict.fromkeys(faults))
        mask, wrong = forgiving_map(label, palette, self.classes)
        if image is not None and image.shape[:2] != mask.shape:
            (h, w), (y, x) = image.shape[:2], mask.shape
            faults.append(f"{pair.image.parent.name}/{pair.image.name}: the image is {w}x{h}, its label {x}x{y}")
            return image, None, wrong, list(dict.fromkeys(faults))
        return image, mask, wrong, list(dict.fromkeys(faults))


def forgiving_map(
    label: np.ndarray, palette: Mapping[str, str] | None, classes: Mapping[str, str]
) -> tuple[np.ndarray, dict[str, int]]:
    """The index map `uint8 [H,W]` with VOID for what is no class, and the pixels of each such value or colour."""
    if palette is None:
        try:
            return index_map(label, len(classes)), {}
        except LabelError:
            pass
    if label.ndim == 3 and palette is None and (label == label[..., :1]).all():
        label = label[..., 0]
    if label.ndim == 3:
        values = label[..., :3].astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
        index = {name: i for i, name in enumerate(classes)} | {"void": VOID}
        known = {int(np.dot(rgb(c), (1 << 16, 1 << 8, 1))): index[n] for c, n in (palette or {}).items()}
        write: Callable[[int], str] = "#{:06x}".format
    else:
        values, write = label.astype(np.int64), str
        known = {i: i for i in [*range(len(classes)), VOID]}
    found, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    table = np.array([known.get(v, VOID) for v in found.tolist()], np.uint8)
    wrong = {write(v): n for v, n in zip(found.tolist(), counts.tolist(), strict=True) if v not in known}
    return table[inverse.reshape(values.shape)], dict(Counter(wrong).most_common())


def survey(source: Source, sides: Sequence[str]) -> list[Record]:
    """A record of every pair, in order; only a few pictures are in memory at a time."""
    scale = working_scale([_pixel_count(pair) for pair in source.pairs])

    def record(i: int) -> Record:
        image, mask, wrong, faults = source.load(i)
        out = Record(source.pairs[i], sides[i], wrong=wrong, faults=faults)
        if mask is not None:
            counts = np.bincount(mask.ravel(), minlength=VOID + 1)
            out.counts, out.void = counts[: len(source.classes)], int(counts[VOID])
        if image is not None:
            out.size = (image.shape[1], image.shape[0])
            out.fingerprint, out.features = fingerprint(image), extract(image, scale)
        return out

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        positions = range(len(source.pairs))
        return list(tqdm(pool.map(record, positions), "reading", len(positions), disable=None, leave=False))


def _pixel_count(pair: Pair) -> int:
    try:
        with Image.open(pair.image) as picture:
            return picture.width * picture.height
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return 0  # the survey says why
