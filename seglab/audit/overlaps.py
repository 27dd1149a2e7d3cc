"""Images that show the same ground: proposed by their points, decided on their pixels at full resolution."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from tqdm import tqdm

from seglab.audit.index import Candidate

SAME_PIXELS, SAME_GROUND = "same pixels", "same ground"
"""Copies of one picture, and two pictures of one place, taken at another time."""
LEAST_SIDE, LEAST_CORRELATION = 24, 0.9
"""Copies share at least a strip of so many pixels, whose colours correlate so well (measured: 0.98 to 0.99)."""
BLOCK, REACH = 48, 12
"""Blocks, in working pixels, that are looked for within this reach."""
LEAST_BLOCKS, LEAST_PEAK = 6, 0.5
"""Of so many blocks the median must be found again so well: 0.65 to 0.83 in the Dubai tiles of two years, 0.12 to 0.38
where houses merely repeat; only overlaps of up to 5 blocks, too few to tell, reach more by repetition."""


@dataclass(frozen=True)
class Overlap:
    """Ground that images `a` < `b` both show: a pixel (x, y) of `a` is (x + dx, y + dy) of `b`."""

    a: int
    b: int
    kind: str
    dx: int
    dy: int
    width: int
    height: int
    correlation: float
    """of the colours of all shared pixels"""
    peak: float
    """median over blocks of the correlation where each block fits best; nan without blocks"""

    @property
    def pixels(self) -> int:
        """Shared pixels."""
        return self.width * self.height


def shared(a: np.ndarray, b: np.ndarray, dx: int, dy: int) -> tuple[np.ndarray, np.ndarray]:
    """The parts `[h,w,...]` of two arrays that cover each other where `a` lies shifted by (dx, dy) in `b`."""
    left, right = max(0, -dx), max(0, min(a.shape[1], b.shape[1] - dx))
    top, bottom = max(0, -dy), max(0, min(a.shape[0], b.shape[0] - dy))
    return a[top:bottom, left:right], b[top + dy : bottom + dy, left + dx : right + dx]


def overlaps(proposed: Sequence[Candidate], image: Callable[[int], np.ndarray | None], scale: float) -> list[Overlap]:
    """Those candidates whose pixels agree; `image(i)` is `uint8 [H,W,3]`, `scale` that of the points."""
    bar = tqdm(proposed, "comparing", disable=None, leave=False)
    pictures = ((c, image(c.a), image(c.b)) for c in bar)
    found = (compare(c, a, b, scale) for c, a, b in pictures if a is not None and b is not None)
    return [overlap for overlap in found if overlap]


def compare(candidate: Candidate, a: np.ndarray, b: np.ndarray, scale: float) -> Overlap | None:
    """The overlap of two images at about the proposed shift; None if it is not the same ground."""
    x, y = (round(v) for v in candidate.shift)
    part_a, part_b = shared(a, b, x, y)
    if min(part_a.shape[:2]) < LEAST_SIDE:
        return None
    peaks, moved = _blocks(part_a, part_b, scale)
    if len(peaks):
        sure = moved[peaks >= np.median(peaks)]
        x, y = (int(v) for v in np.round([x, y] + np.median(sure, 0) / scale))
    dx, dy = _exact(a, b, x, y)
    part_a, part_b = shared(a, b, dx, dy)
    if min(part_a.shape[:2]) < LEAST_SIDE:
        return None
    correlation = _correlation(part_a, part_b)
    peak = float(np.median(peaks)) if len(peaks) else float("nan")
    if correlation >= LEAST_CORRELATION:
        kind = SAME_PIXELS
    elif len(peaks) >= LEAST_BLOCKS and peak >= LEAST_PEAK:
        kind = SAME_GROUND
    else:
        return None
    height, width = part_a.shape[:2]
    return Overlap(candidate.a, candidate.b, kind, dx, dy, width, height, correlation, peak)


def _blocks(a: np.ndarray, b: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Best correlation `[N]` of each block of `a` with `b`, and its move (x, y) `[N,2]` there, in working pixels."""
    gray_a, gray_b = (_gray(part, scale) for part in (a, b))
    peaks = []
    moved = []
    for top in range(REACH, gray_a.shape[0] - BLOCK - REACH + 1, BLOCK):
        for left in range(REACH, gray_a.shape[1] - BLOCK - REACH + 1, BLOCK):
            block = gray_a[top : top + BLOCK, left : left + BLOCK]
            around = gray_b[top - REACH : top + BLOCK + REACH, left - REACH : left + BLOCK + REACH]
            if min(block.std(), around.std()) < 2:
                continue  # nothing to find, such as open water
            likeness = cv2.matchTemplate(around, block, cv2.TM_CCOEFF_NORMED)
            _, peak, _, place = cv2.minMaxLoc(likeness)
            peaks.append(peak)
            moved.append((place[0] - REACH, place[1] - REACH))
    return np.array(peaks), np.array(moved, float).reshape(-1, 2)


def _gray(image: np.ndarray, scale: float) -> np.ndarray:
    gray = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return gray if scale == 1 else cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _exact(a: np.ndarray, b: np.ndarray, x: int, y: int, reach: int = 3) -> tuple[int, int]:
    """The shift within `reach` of (x, y) at which the pixels in the middle of what is shared fit best."""
    part_a, part_b = shared(a, b, x, y)
    height, width = part_a.shape[:2]
    if min(height, width) <= 2 * reach + 8:
        return x, y
    half_h, half_w = (min(256, side // 2) - reach for side in (height, width))
    rows, columns = (slice(c - h, c + h) for c, h in ((height // 2, half_h), (width // 2, half_w)))
    block = part_a[rows, columns]
    around = part_b[rows.start - reach : rows.stop + reach, columns.start - reach : columns.stop + reach]
    likeness = cv2.matchTemplate(np.ascontiguousarray(around), np.ascontiguousarray(block), cv2.TM_CCOEFF_NORMED)
    place = cv2.minMaxLoc(likeness)[3]
    return x + place[0] - reach, y + place[1] - reach


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of all values of two pictures; 0 where one of them is even."""
    x, y = (part.astype(np.float32).ravel() for part in (a, b))
    x -= x.mean(dtype=np.float64)
    y -= y.mean(dtype=np.float64)
    length = float(np.linalg.norm(x)) * float(np.linalg.norm(y))
    return float(np.dot(x, y)) / length if length else 0.0
