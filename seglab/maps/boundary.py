"""The boundary F-score: whether the outlines of a map lie within a few pixels of those of the label.

A pixel of a class lies on the class's boundary if one of its four neighbours is of another class. The border of an
image is no boundary. Where the label is VOID nothing is known: such pixels, and pixels beside them, lie on no boundary,
neither of the label nor of the map. Precision is the share of the map's boundary pixels within d pixels (Euclidean) of
the label's boundary of the same class, recall the reverse, and F = 2 P R / (P + R) (Csurka et al. 2013; Perazzi et al.
2016). Csurka averages over images; here pixels are counted over a whole split, as for mIoU, and F is taken of the sums.
"""

import cv2
import numpy as np

from seglab.labels import VOID

DISTANCES = (1, 3, 5)
"""Pixels within which two boundaries agree."""

MAP, LABEL = 0, 1
"""Rows of the counts of a class."""


def boundary(index_map: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Pixels `bool [H,W]` of a map `uint8 [H,W]` that lie on the boundary of their class; `known bool [H,W]`."""
    edge = np.zeros(index_map.shape, bool)
    beside_void = ~known
    for here, there in _neighbours():
        edge[here] |= index_map[here] != index_map[there]
        beside_void[here] |= ~known[there]
    return edge & ~beside_void


def _neighbours() -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Slices of all pixels that have a neighbour, and of that neighbour, in four directions."""
    every = slice(None)
    first, last = slice(None, -1), slice(1, None)
    rows = [((first, every), (last, every)), ((last, every), (first, every))]
    return rows + [((every, a), (every, b)) for (a, _), (b, _) in rows]


def boundary_counts(mask: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts `int64 [K,2,1+D]` of a label `mask` and a map, both `uint8 [H,W]`.

    Of each class, of the map and of the label: the boundary pixels, and those within each of DISTANCES of the other's.
    """
    known = mask != VOID
    lines = {MAP: boundary(prediction, known), LABEL: boundary(mask, known)}
    maps = {MAP: prediction, LABEL: mask}
    out = np.zeros((num_classes, 2, 1 + len(DISTANCES)), np.int64)
    for k in range(num_classes):
        own = {side: lines[side] & (maps[side] == k) for side in lines}
        for side, other in ((MAP, LABEL), (LABEL, MAP)):
            out[k, side, 0] = own[side].sum()
            out[k, side, 1:] = [(own[side] & _near(own[other], d)).sum() for d in DISTANCES]
    return out


def _near(line: np.ndarray, distance: int) -> np.ndarray:
    """Pixels `bool [H,W]` within a Euclidean distance of one of `line`: a disc laid on each is 10 times as fast as a
    distance transform.
    """
    y, x = np.mgrid[-distance : distance + 1, -distance : distance + 1]
    disc = (y**2 + x**2 <= distance**2).astype(np.uint8)
    return cv2.dilate(line.astype(np.uint8), disc).astype(bool)


def boundary_f_per_class(counts: np.ndarray) -> np.ndarray:
    """F `float64 [D,K]` of counts `[K,2,1+D]`; NaN for a class that has a boundary neither in maps nor in labels."""
    lengths = counts[..., :1].astype(np.float64)
    shares = np.divide(counts[..., 1:], lengths, out=np.zeros(counts[..., 1:].shape), where=lengths > 0)
    precision, recall = shares[:, MAP], shares[:, LABEL]  # [K,D]
    both = precision + recall
    f = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    f[lengths.sum((1, 2)) == 0] = np.nan
    return f.T


def boundary_f(counts: np.ndarray) -> np.ndarray:
    """Mean F `float64 [D]` over the classes that have a boundary; NaN where none has."""
    f = boundary_f_per_class(counts)
    known = ~np.isnan(f)
    return np.divide(np.nansum(f, 1), known.sum(1), out=np.full(len(f), np.nan), where=known.any(1))
