"""Pairs of images that share many points, found without comparing all of them with all."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seglab.audit.features import Features

PARTNERS, VOTES = 8, 4
"""An image is compared with the so many images that share most points at one shift, if they share at least so many."""
BIN = 16
"""Shifts, in working pixels, are counted in bins of this width."""


@dataclass(frozen=True)
class Candidate:
    """Images `a` < `b` that may show the same ground: a pixel of `a` lies `shift` (x, y) further in `b`."""

    a: int
    b: int
    shift: tuple[float, float]
    votes: int


class Index:
    """All points of all images, sorted into cells of similar descriptors, so that none is compared with all."""

    def __init__(self, features: Sequence[Features | None]):
        kept = [(i, f) for i, f in enumerate(features) if f is not None and len(f.sizes)]
        self.owner = np.concatenate([np.full(len(f.sizes), i) for i, f in kept] or [np.zeros(0, int)])
        self.places = np.concatenate([f.places for _, f in kept] or [np.zeros((0, 2))])
        self.sizes = np.concatenate([f.sizes for _, f in kept] or [np.zeros(0)])
        self.angles = np.concatenate([f.angles for _, f in kept] or [np.zeros(0)])
        self.descriptors = np.concatenate([f.descriptors for _, f in kept] or [np.zeros((0, 128), np.uint8)])
        self.bin = BIN / (kept[0][1].scale if kept else 1)

    def matches(self, probe: int = 2, nearest: int = 4) -> tuple[np.ndarray, np.ndarray]:
        """Positions (q, m) of points of two images that are alike, near in size and angle: `nearest` of each of the
        `probe` cells a point is closest to. With N points it costs about N ** 1.5 comparisons.
        """
        if len(self.owner) == 0:
            return np.zeros(0, int), np.zeros(0, int)
        near = self._cells(probe)
        order = np.argsort(near[:, 0], kind="stable")
        bounds = np.searchsorted(near[order, 0], np.arange(near.max() + 2))
        found = []
        for cell in range(near.max() + 1):
            members = order[bounds[cell] : bounds[cell + 1]]
            asking = np.flatnonzero((near == cell).any(1))
            for part in np.array_split(asking, len(asking) * len(members) // 20_000_000 + 1):
                found.append(self._nearest(part, members, nearest))
        q, m = (np.concatenate(side) for side in zip(*found, strict=True))
        turned = np.abs((self.angles[q] - self.angles[m] + 180) % 360 - 180)
        resized = np.abs(np.log2(self.sizes[q] / self.sizes[m]))
        alike = (turned < 15) & (resized < 0.5)
        return q[alike], m[alike]

    def _nearest(self, asking: np.ndarray, members: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        x, y = (self.descriptors[rows].astype(np.float32) for rows in (asking, members))
        likeness = 2 * x @ y.T - (y**2).sum(1)
        foreign = self.owner[asking][:, None] != self.owner[members][None]
        likeness[~foreign] = -np.inf
        count = min(count, len(members))
        top = np.argpartition(-likeness, count - 1, 1)[:, :count] if count else np.zeros((len(asking), 0), int)
        rows = np.repeat(np.arange(len(asking)), count)
        kept = foreign[rows, top.ravel()]
        return asking[rows[kept]], members[top.ravel()[kept]]

    def _cells(self, probe: int) -> np.ndarray:
        """The `probe` nearest cells of each point, the nearest first: k-means on a sample, seeded, whole numbers."""
        rng = np.random.default_rng(0)
        count = max(1, round(np.sqrt(len(self.owner)) / 2))
        centers = self.descriptors[np.sort(rng.choice(len(self.owner), count, replace=False))].astype(np.float32)
        chosen = np.sort(rng.choice(len(self.owner), min(len(self.owner), 64 * count), replace=False))
        sample = self.descriptors[chosen].astype(np.float32)
        for _ in range(4):
            mine = (2 * sample @ centers.T - (centers**2).sum(1)).argmax(1)
            for cell in np.unique(mine):
                centers[cell] = sample[mine == cell].mean(0).round()
        parts = []
        for start in range(0, len(self.owner), 1 << 16):
            x = self.descriptors[start : start + (1 << 16)].astype(np.float32)
            parts.append(np.argsort(-(2 * x @ centers.T - (centers**2).sum(1)), 1, kind="stable")[:, :probe])
        return np.concatenate(parts)


def candidates(features: Sequence[Features | None]) -> list[Candidate]:
    """Pairs of images worth comparing pixel by pixel: many of their matches agree in one shift."""
    index = Index(features)
    q, m = index.matches()
    swap = index.owner[q] > index.owner[m]
    q, m = np.unique(np.where(swap, [m, q], [q, m]), axis=1)  # a match found from both sides is one
    pair = index.owner[q] * len(features) + index.owner[m]
    order = np.argsort(pair, kind="stable")
    pair, shift = pair[order], (index.places[m] - index.places[q])[order]
    keys = np.c_[pair, np.round(shift / index.bin).astype(np.int64)]
    bins, votes = np.unique(keys, axis=0, return_counts=True)
    best: dict[int, tuple[int, np.ndarray]] = {}
    for row, count in zip(bins[votes >= VOTES], votes[votes >= VOTES].tolist(), strict=True):
        if count > best.get(int(row[0]), (0, row))[0]:
            best[int(row[0])] = (count, row[1:] * index.bin)
    out = []
    for key, (count, around) in best.items():
        mine = shift[slice(*np.searchsorted(pair, [key, key + 1]))]
        near = mine[(np.abs(mine - around) <= 1.5 * index.bin).all(1)]
        x, y = np.median(near, 0).tolist()
        out.append(Candidate(*divmod(key, len(features)), (x, y), count))
    return _strongest(out)


def _strongest(found: list[Candidate]) -> list[Candidate]:
    """Those that are among the `PARTNERS` with most votes of either image, in order of the images."""
    ranks: dict[int, int] = defaultdict(int)
    kept = []
    for c in sorted(found, key=lambda c: (-c.votes, c.a, c.b)):
        if min(ranks[c.a], ranks[c.b]) < PARTNERS:
            kept.append(c)
        ranks[c.a] += 1
        ranks[c.b] += 1
    return sorted(kept, key=lambda c: (c.a, c.b))
