"""Points of an image that are found again in another picture of the same ground."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

POINTS = 500
"""Per image, spread evenly: with 250 the weakest real overlap of the Dubai tiles keeps 4 votes, with 500 it has 6."""


@dataclass(frozen=True)
class Features:
    """Places `float32 [N,2]` (x, y) in full pixels, sizes and angles `[N]`, descriptors `uint8 [N,128]`: 70 kB."""

    places: np.ndarray
    sizes: np.ndarray
    angles: np.ndarray
    descriptors: np.ndarray
    scale: float


def working_scale(pixel_counts: Sequence[int]) -> float:
    """1, 1/2, 1/4, ...: at it the median image has about 500 x 500 pixels. One for all, so that points are the same."""
    median = float(np.median([n for n in pixel_counts if n] or [1]))
    return 0.5 ** max(0, round(np.log2(np.sqrt(median) / 500)))


def extract(image: np.ndarray, scale: float) -> Features:
    """The points of `uint8 [H,W,3]`: the strongest SIFT of each 64 x 64 cell first (Lowe 2004), with root descriptors

    (Arandjelovic and Zisserman 2012), in whole numbers so that every comparison is exact.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if scale != 1:
        gray = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    points, descriptors = cv2.SIFT.create(8 * POINTS).detectAndCompute(gray, None)
    if not points:
        none = np.zeros(0, np.float32)
        return Features(none.reshape(0, 2), none, none, np.zeros((0, 128), np.uint8), scale)
    places = np.array([p.pt for p in points], np.float32)
    kept = _spread(places, np.array([p.response for p in points]))[:POINTS]
    root = np.sqrt(descriptors[kept] / np.maximum(descriptors[kept].sum(1, keepdims=True), 1e-9))
    return Features(
        places[kept] / scale,
        np.array([points[k].size for k in kept], np.float32),
        np.array([points[k].angle for k in kept], np.float32),
        np.minimum(512 * root, 255).round().astype(np.uint8),
        scale,
    )


def _spread(places: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """An order in which each cell's strongest come first, then each cell's second ones, ..."""
    cell = (places // 64).astype(np.int64) @ np.array([1, 1 << 20])
    order = np.lexsort((-strength, cell))
    starts = np.flatnonzero(np.r_[True, np.diff(cell[order]) != 0])
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return order[np.argsort(rank, kind="stable")]
