"""Pairs of images that share many points, found without comparing all of them with all."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seglab.audit.features import Features

PARTNERS, VOTES = 8, 4
"""An image is compared with the so many images that share most points at one shift, if they share at least so many."""
PART = 1 << 14
"""Points whose distances to all cells are in memory at once: a GB for those of 20,000 images."""

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
        asked = np.argsort(near.ravel(), kind="stable")
        ends = np.searchsorted(near.ravel()[asked], np.arange(near.max() + 2))
        found = []
        for cell in range(near.max() + 1):
            members = order[bounds[cell] : bounds[cell + 1]]
            asking = asked[ends[cell] : ends[cell + 1]] // near.shape[1]
            for part in np.array_split(asking, len(asking) * len(members) // 20_000_000 + 1):
                found.append(self._alike(*self._nearest(part, members, nearest)))
        q, m = (np.concatenate(side) for side in zip(*found, strict=True))
        return q, m

    def _alike(self, q: np.ndarray, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those pairs of points that are near in size and angle."""
        turned = np.abs((self.angles[q] - self.angles[m] + 180) % 360 - 180)
        resized = np.abs(np.log2(self.sizes[q] / self.sizes[m]))
        alike = (turned < 15) & (resized < 0.5)
        return q[alike], m[alike]

    def _nearest(self, asking: np.ndarray, members: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The `count` nearest members, of other images, of each asking point. Both are in the order of their images."""
        count = min(count, len(members))
        distance = _distances(self.descriptors[asking], self.descriptors[members])
        first, end = (np.searchsorted(self.owner[members], self.owner[asking], side) for side in ("left", "right"))
        for row in np.flatnonzero(end > first):
            distance[row, first[row] : end[row]] = np.inf
        rows = np.arange(len(asking))
        top = np.zeros((len(asking), count), int)
        kept = np.zeros((len(asking), count), bool)
        for k in range(count):  # four passes take half the time of one argpartition
            top[:, k] = distance.argmin(1)
            kept[:, k] = distance[rows, top[:, k]] < np.inf
            distance[rows, top[:, k]] = np.inf
        return asking[np.nonzero(kept)[0]], members[top[kept]]

    def _cells(self, probe: int) -> np.ndarray:
        """The `probe` nearest cells of each point, the nearest first: k-means on a sample, seeded, whole numbers."""
        rng = np.random.default_rng(0)
        count = max(1, round(np.sqrt(len(self.owner)) / 2))
        centers = self.descriptors[np.sort(rng.choice(len(self.owner), count, replace=False))].astype(np.float32)
        chosen = np.sort(rng.choice(len(self.owner), min(len(self.owner), 64 * count), replace=False))
        sample = self.descriptors[chosen].astype(np.float32)
        for _ in range(4):
            mine = _distances(sample, centers).argmin(1)
            for cell in np.unique(mine):
                centers[cell] = sample[mine == cell].mean(0).round()
        near = np.zeros((len(self.owner), min(probe, count)), int)
        for start in range(0, len(self.owner), PART):
            distance = _distances(self.descriptors[start : start + PART], centers)
            rows = np.arange(len(distance))
            for k in range(near.shape[1]):
                near[start : start + PART, k] = chosen = distance.argmin(1)
                distance[rows, chosen] = np.inf
        return near


def _distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared distance of each x to each y `float32 [N,M]`, without the square of x; exact for whole numbers."""
    x, y = (part.astype(np.float32) for part in (x, y))
    return np.c_[-2 * x, np.ones(len(x), np.float32)] @ np.c_[y, (y**2).sum(1)].T


def candidates(features: Sequence[Features | None]) -> list[Candidate]:
    """Pairs of images worth comparing pixel by pixel: many of their matches agree in one shift."""
    index = Index(features)
    q, m = index.matches()
    swap = index.owner[q] > index.owner[m]
    both = np.where(swap, m * len(index.owner) + q, q * len(index.owner) + m)
    q, m = np.divmod(np.unique(both), max(1, len(index.owner)))  # a match found from both sides is one
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
