"""Labels that a trained network contradicts most, found with one image in memory at a time.

Each pixel's self-confidence is the probability that the network gives to its label; an image's score is their softmin
(Lad and Mueller 2023, "Estimating label quality and errors in semantic segmentation data via any model").
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from seglab.labels import VOID

TEMPERATURE = 0.1
"""Of the softmin, as in the paper."""
SURE, LEAST_SHARE = 0.7, 0.001
"""A region is where another class has at least this probability, on at least this share of the image."""
SHOWN = 5
"""Regions kept of an image, the largest."""
REACH, GAIN, MENDED = 12, 0.05, 0.15
"""A label is called shifted if moving it by up to so many pixels lets so much more of it agree with the map, and mends
so much of what disagreed: a swapped label gains less, wherever it is moved."""


@dataclass(frozen=True)
class Region:
    """A connected part where the network is sure of another class: its box, pixels, and two classes."""

    x: int
    y: int
    width: int
    height: int
    pixels: int
    given: int
    predicted: int


@dataclass(frozen=True)
class Issue:
    """The network's opinion on one label: a few numbers, whatever the size of the image."""

    index: int
    score: float
    """softmin of the self-confidence: 0 is contradicted, 1 is confirmed; nan if no pixel has a label"""
    disagreeing: float
    """share of the labelled pixels that the map gives another class"""
    shift: tuple[int, int]
    """(x, y) by which the label should be moved; (0, 0) where that gains nothing"""
    gain: float
    """what moving it adds to the share that agrees"""
    regions: tuple[Region, ...]


def softmin(values: np.ndarray, temperature: float = TEMPERATURE) -> float:
    """Mean of `values` in 0..1 with weights softmax((1 - value) / temperature): near the least of them. nan of none."""
    if not values.size:
        return float("nan")
    weights = np.exp((values.min() - values.astype(np.float64)) / temperature)
    return float((weights * values).sum() / weights.sum())


def label_issues(
    samples: Iterable[tuple[int, np.ndarray, np.ndarray]], predict: Callable[[np.ndarray], np.ndarray]
) -> Iterator[Issue]:
    """The issue of each sample (index, image `[H,W,3]`, mask `[H,W]`), as it comes; `predict` gives probabilities."""
    for index, image, mask in samples:
        yield issue(index, mask, predict(image))


def issue(index: int, mask: np.ndarray, probability: np.ndarray) -> Issue:
    """The issue of a label `mask [H,W]` by the probabilities `[K,H,W]`, VOID pixels aside."""
    labelled = mask != VOID
    given = np.take_along_axis(probability, np.where(labelled, mask, 0)[None].astype(np.int64), 0)[0]
    predicted = probability.argmax(0).astype(np.uint8)
    wrong = labelled & (predicted != mask)
    shift, gain = best_shift(mask, predicted, len(probability))
    share = float(wrong.sum() / labelled.sum()) if labelled.any() else float("nan")
    sure = wrong & (probability.max(0) >= SURE)
    return Issue(index, softmin(given[labelled]), share, shift, gain, tuple(regions(sure, mask, predicted)))


def sure_mistakes(mask: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """`bool [H,W]`: where the network is sure of another class than the label's, in parts worth an outline."""
    predicted = probability.argmax(0)
    sure = (mask != VOID) & (predicted != mask) & (probability.max(0) >= SURE)
    parts, stats = _parts(sure)
    kept = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= LEAST_SHARE * mask.size)
    return np.isin(parts, kept[kept > 0])


def regions(sure: np.ndarray, mask: np.ndarray, predicted: np.ndarray) -> list[Region]:
    """The largest connected parts of `sure [H,W]`, each with the commonest pair of given and predicted class in it."""
    parts, stats = _parts(sure)
    largest = sorted(range(1, len(stats)), key=lambda k: (-stats[k, cv2.CC_STAT_AREA], k))[:SHOWN]
    out = []
    for k in largest:
        x, y, w, h, area = stats[k].tolist()
        if area < LEAST_SHARE * mask.size:
            break
        at = np.s_[y : y + h, x : x + w]
        here = parts[at] == k
        pairs = mask[at][here].astype(np.int64) * 256 + predicted[at][here]
        given, other = divmod(int(np.bincount(pairs).argmax()), 256)
        out.append(Region(x, y, w, h, area, given, other))
    return out


def _parts(sure: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    _, parts, stats, _ = cv2.connectedComponentsWithStats(sure.astype(np.uint8), connectivity=8)
    return parts, stats


def best_shift(mask: np.ndarray, predicted: np.ndarray, num_classes: int) -> tuple[tuple[int, int], float]:
    """The move (x, y) of a label, within REACH, at which it agrees most with the map, and the share that it gains.

    All moves are counted at once, class by class, by Fourier transform. ((0, 0), 0.0) where no move mends enough.
    """
    reach = min(REACH, min(mask.shape) // 4)
    shape = [cv2.getOptimalDFTSize(side + reach) for side in mask.shape]

    def counts(of_label: np.ndarray, of_map: np.ndarray) -> np.ndarray:
        """For each move, the pixels where both are true."""
        spectra = [np.fft.rfft2(part.astype(np.float32), shape) for part in (of_label, of_map)]
        both = np.fft.irfft2(spectra[0].conj() * spectra[1], shape)
        return np.roll(both, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]

    labelled = mask != VOID
    agree = sum(counts(mask == k, predicted == k) for k in range(num_classes))
    seen = counts(labelled, np.ones_like(labelled))
    share = np.where(seen > 0.5, agree / np.maximum(seen, 1), 0)
    y, x = np.unravel_index(share.argmax(), share.shape)
    gain = float(share[y, x] - share[reach, reach])
    inside = 0 < y < 2 * reach and 0 < x < 2 * reach  # a best move at the rim is no peak
    enough = inside and gain >= max(GAIN, MENDED * (1 - share[reach, reach]))
    return ((int(x) - reach, int(y) - reach), gain) if enough else ((0, 0), 0.0)
