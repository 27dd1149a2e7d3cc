"""Reads every pair once, whatever is wrong with it: what its label holds, and how to recognise its picture again."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from seglab.audit.features import Features, extract, working_scale
from seglab.audit.fingerprint import Fingerprint, fingerprint
from seglab.data.folder import FolderReader, Pair, check_sizes, covered
from seglab.labels import VOID, rgb
from seglab.pages.pictures import preview

T = TypeVar("T")


@dataclass
class Record:
    """One pair: `side` is train, val, test or unknown; `counts [K]` pixels by class, None without a usable label."""

    pair: Pair
    side: str
    size: tuple[int, int] | None = None  # width, height
    counts: np.ndarray | None = None
    void: int = 0
    wrong: dict[str, int] = field(default_factory=dict)  # pixels of each value or colour that is no class
    faults: list[str] = field(default_factory=list)
    orientation: int = 1  # of the image's EXIF block; not 1 where it was turned
    kind: tuple[np.dtype, int] | None = None  # of the image: type and bands
    fingerprint: Fingerprint | None = None
    features: Features | None = None

    @property
    def shares(self) -> np.ndarray | None:
        """Share of each class `[K]` in the labelled pixels."""
        total = 0 if self.counts is None else self.counts.sum()
        return self.counts / total if self.counts is not None and total else None


@dataclass(frozen=True)
class Sample:
    """Image `[H,W,3]` and index map `[H,W]`, None if unusable, and what is wrong with them."""

    image: np.ndarray | None
    mask: np.ndarray | None
    wrong: dict[str, int] = field(default_factory=dict)  # pixels of each value or colour that is no class
    faults: list[str] = field(default_factory=list)
    orientation: int = 1


class Source:
    """Pairs by position, decoded at full resolution by their reader, with pixels of no class as VOID."""

    def __init__(self, pairs: Sequence[Pair], reader: FolderReader, classes: Mapping[str, str]):
        self.pairs = pairs
        self.reader = reader
        self.classes = classes

    def load(self, i: int) -> Sample:
        """All that can be read of a pair; where training would refuse it, `faults` say why."""
        pair = self.pairs[i]
        faults: list[str] = []
        wrong: dict[str, int] = {}
        image = _tried(lambda: self.reader.image(pair), faults)
        label = _tried(lambda: self.reader.label(pair, self.classes), faults)
        values, orientation = (image.values, image.orientation) if image else (None, 1)
        if label is None:
            return Sample(values, None, wrong, faults, orientation)
        mask = _tried(lambda: self.reader.mask(pair, label, self.classes), faults)
        if mask is None:
            mask, wrong = forgiving_map(label, self.reader.palette, self.classes)
        try:
            if image:
                check_sizes(pair, image, mask)
                mask = covered(mask, image)
        except ValueError as e:
            return Sample(values, None, wrong, [*faults, str(e)], orientation)
        return Sample(values, mask, wrong, faults, orientation)


def _tried(read: Callable[[], T], faults: list[str]) -> T | None:
    try:
        return read()
    except ValueError as e:
        faults.append(str(e))
        return None


def forgiving_map(
    label: np.ndarray, palette: Mapping[str, str] | None, classes: Mapping[str, str]
) -> tuple[np.ndarray, dict[str, int]]:
    """The index map `uint8 [H,W]` with VOID for what is no class, and the pixels of each such value or colour."""
    known: dict[float, int]
    if label.ndim == 3 and palette is None and (label == label[..., :1]).all():
        label = label[..., 0]
    if label.ndim == 3:
        values = label.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
        write: Callable[[float], str] = "#{:06x}".format
        index = {name: i for i, name in enumerate(classes)} | {"void": VOID}
        known = {int(np.dot(rgb(c), (1 << 16, 1 << 8, 1))): index[n] for c, n in (palette or {}).items()}
    else:
        values, write = label, str
        known = {i: i for i in [*range(len(classes)), VOID]}
    found, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    table = np.array([known.get(v, VOID) for v in found.tolist()], np.uint8)
    wrong = {write(v): n for v, n in zip(found.tolist(), counts.tolist(), strict=True) if v not in known}
    return table[inverse.reshape(values.shape)], dict(Counter(wrong).most_common())


def survey(source: Source, sides: Sequence[str]) -> list[Record]:
    """A record of every pair, in order; only a few pictures are in memory at a time."""
    scale = working_scale([source.reader.extent(pair)[0] for pair in source.pairs])

    def record(i: int) -> Record:
        sample = source.load(i)
        out = Record(source.pairs[i], sides[i], wrong=sample.wrong, faults=sample.faults)
        out.orientation = sample.orientation
        if sample.mask is not None:
            counts = np.bincount(sample.mask.ravel(), minlength=VOID + 1)
            out.counts = counts[: len(source.classes)]
            out.void = int(counts[VOID])
        if sample.image is not None:
            out.kind = (sample.image.dtype, sample.image.shape[2])
            out.size = (sample.image.shape[1], sample.image.shape[0])
            out.fingerprint = fingerprint(sample.image)
            out.features = extract(preview(sample.image), scale)
        return out

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        positions = range(len(source.pairs))
        return list(tqdm(pool.map(record, positions), "reading", len(positions), disable=None, leave=False))
