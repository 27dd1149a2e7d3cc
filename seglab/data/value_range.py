"""The range of values of each band that a network scales to 0..1: given, or percentiles of the training images."""

import logging
from collections.abc import Sequence
from math import isfinite

import numpy as np

from seglab.data.kept.image_set import ImageSet
from seglab.labels import VOID

LARGEST = 128
"""Bands of an image at most: OpenCV, which augments them, takes no more."""

EXACT = 1 << 24
"""Float values of a band up to which percentiles are of all of them: sorting that many takes 2 s and 64 MB."""

ROWS = 1 << 20
"""Pixels that are counted at once: more would be copied as a whole."""

TOGETHER = 4
"""Bands whose values are looked at in one reading of the images: float ones take 64 MB each, and twice that sorted."""

PERCENTILES = (2, 98)

log = logging.getLogger(__name__)

Values = Sequence[float] | Sequence[Sequence[float]]


class Scaling:
    """The settings of how values of bands are scaled. Raises ValueError for those that do not fit each other."""

    def __init__(
        self,
        bands: Sequence[int] | None,
        of_reader: Sequence[int] | None,
        percentiles: Sequence[float] | None,
        value_range: Values | None,
    ):
        if (None if bands is None else list(bands)) != (None if of_reader is None else list(of_reader)):
            accepted = "accepted are equal ones, as conf/data/raster.yaml has them"
            raise ValueError(f"data.bands={bands}, data.reader.bands={of_reader}: {accepted}")
        if bands is None and (value_range is not None or percentiles is not None):
            raise ValueError("data.value_range and data.percentiles are those of data.bands: accepted is data=raster")
        if bands is not None and not (0 < len(bands) <= LARGEST and min(bands) > 0):
            raise ValueError(f"data.bands={list(bands)}: accepted are 1 to {LARGEST} numbers, counted from 1")
        self.percentiles = PERCENTILES if percentiles is None else percentiles
        check_percentiles(self.percentiles)
        self.rasters = bands is not None
        self.given = given_range(value_range, len(bands or ()))

    def range_of(self, cache: ImageSet, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray] | None:
        """Low and high `float32 [C]` for data of which these train; None of RGB of 8 bits."""
        if not self.rasters:
            return None
        return self.given or percentile_range(cache, indices, self.percentiles)


def given_range(value_range: Values | None, bands: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Low and high `float32 [C]` of a setting; None where it is null. Raises ValueError."""
    if value_range is None:
        return None
    try:
        pairs = np.array(value_range, np.float64)
        pairs = np.tile(pairs, (bands, 1)) if pairs.shape == (2,) else pairs
        right = pairs.shape == (bands, 2) and np.isfinite(pairs).all() and (pairs[:, 0] < pairs[:, 1]).all()
    except (ValueError, TypeError):
        right = False
    if not right:
        raise ValueError(
            f"data.value_range={value_range}: accepted is null, [low, high] with low < high, or one such pair for each "
            f"of the {bands} bands"
        )
    return pairs[:, 0].astype(np.float32), pairs[:, 1].astype(np.float32)


def check_percentiles(percentiles: Sequence[float]) -> None:
    """Raises ValueError unless they are two, the lower one first."""
    right = len(percentiles) == 2 and all(isfinite(p) for p in percentiles)
    if not right or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise ValueError(f"data.percentiles={list(percentiles)}: accepted are [low, high] with 0 <= low < high <= 100")


def percentile_range(
    cache: ImageSet, indices: Sequence[int], percentiles: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Low and high `float32 [C]`: percentiles of each band over the pixels of these images that have a class.

    Of whole numbers they are exact, by a histogram; of floats they are those of every n-th pixel, where the images have
    more than n times EXACT pixels. Between two neighbouring values they are interpolated, as `np.percentile` does.
    """
    of_bands = _of_floats if cache.dtype.kind == "f" else _of_integers

    def ranges() -> np.ndarray:
        groups = [range(first, min(first + TOGETHER, cache.bands)) for first in range(0, cache.bands, TOGETHER)]
        return np.concatenate([of_bands(cache, indices, group, percentiles) for group in groups])

    found = cache.remembered("percentiles", [list(indices), list(percentiles), EXACT], ranges)  # [C,2]
    for band in np.flatnonzero(found[:, 0] == found[:, 1]):
        value, both = found[band, 0], " and ".join(f"{p:g}" for p in percentiles)
        log.warning("band %d of the images: its percentiles %s are both %g, so it tells little", band + 1, both, value)
    return found[:, 0].astype(np.float32), found[:, 1].astype(np.float32)


def _of_integers(
    cache: ImageSet, indices: Sequence[int], bands: range, percentiles: Sequence[float]
) -> list[list[float]]:
    lowest = int(np.iinfo(cache.dtype).min)
    counts = np.zeros((len(bands), int(np.iinfo(cache.dtype).max) - lowest + 1), np.int64)
    for image, mask in (cache[i] for i in indices):
        rows = max(1, ROWS // mask.shape[1])
        for top in range(0, len(mask), rows):
            known = mask[top : top + rows] != VOID
            for of_band, band in zip(counts, bands, strict=True):
                values = image[top : top + rows, :, band][known].astype(np.int64) - lowest
                of_band += np.bincount(values, minlength=counts.shape[1])
    return [_percentiles_of(of_band, lowest, percentiles) for of_band in counts]


def _percentiles_of(counts: np.ndarray, lowest: int, percentiles: Sequence[float]) -> list[float]:
    """Percentiles of whole numbers, from `lowest` on, that are there so often `[values]`."""
    below = counts.cumsum()  # values of rank r, from 0, are the first of which more than r are as low

    def at(rank: float) -> float:
        whole = int(rank)
        first, second = (
            float(np.searchsorted(below, min(r, below[-1] - 1), side="right")) + lowest for r in (whole, whole + 1)
        )
        return first + (second - first) * (rank - whole)

    return [at(p / 100 * (int(below[-1]) - 1)) for p in percentiles]


def _of_floats(
    cache: ImageSet, indices: Sequence[int], bands: range, percentiles: Sequence[float]
) -> list[list[float]]:
    step = -(-sum(h * w for h, w in (cache.sizes[i] for i in indices)) // EXACT)
    parts = []
    for i in indices:
        image, mask = cache[i]
        chosen = mask.reshape(-1)[::step] != VOID
        parts.append(image.reshape(-1, cache.bands)[::step, bands.start : bands.stop][chosen])
    values = np.concatenate(parts).astype(np.float64)
    return [[float(v) for v in np.percentile(of_band, list(percentiles))] for of_band in values.T]
