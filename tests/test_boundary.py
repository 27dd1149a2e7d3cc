"""The boundary F-score: by hand, against a slow version, and what must hold of any two maps."""

import math

import numpy as np
import pytest

from seglab.labels import VOID
from seglab.maps.boundary import DISTANCES, boundary, boundary_counts, boundary_f, boundary_f_per_class


def bar(column: int, width: int = 12, height: int = 4) -> np.ndarray:
    """Class 1 from a column on, class 0 before it."""
    return np.broadcast_to(np.arange(width) >= column, (height, width)).astype(np.uint8)


def test_a_shifted_line_by_hand() -> None:
    counts = boundary_counts(bar(4), bar(6), 3)
    # both classes have a boundary of one column of four pixels, in the map two columns beside the label's
    assert counts[0].tolist() == counts[1].tolist() == [[4, 0, 4, 4], [4, 0, 4, 4]]
    assert counts[2].tolist() == [[0, 0, 0, 0]] * 2, "a class that is nowhere"
    assert boundary_f(counts).tolist() == [0, 1, 1]
    assert np.isnan(boundary_f_per_class(counts)[:, 2]).all()


def test_precision_and_recall_by_hand() -> None:
    # the map has the label's line between columns 3 and 4, and one of its own, far from it, between 12 and 13
    prediction = bar(4, 16)
    prediction[:, 13:] = 0
    counts = boundary_counts(bar(4, 16), prediction, 2)
    assert counts[0].tolist() == [[8, 4, 4, 4], [4, 4, 4, 4]]
    assert counts[1].tolist() == [[8, 4, 4, 4], [4, 4, 4, 4]]
    assert boundary_f(counts) == pytest.approx([2 / 3] * 3), "precision 1/2, recall 1"


def test_borders_of_images_and_void_are_no_boundary() -> None:
    mask = bar(4)
    everything = np.ones_like(mask, bool)
    assert not boundary(np.ones_like(mask), everything).any()
    assert boundary(mask, everything).sum() == 8
    mask[0] = VOID
    assert boundary(mask, mask != VOID)[:2].sum() == 0, "neither void nor a pixel beside it"
    assert boundary(bar(4), mask != VOID)[:2].sum() == 0, "of the map alike"
    assert boundary(bar(4), mask != VOID)[2:].sum() == 4
    alone = np.full((4, 4), VOID, np.uint8)
    assert not boundary_counts(alone, bar(2, 4), 2).any()
    assert np.isnan(boundary_f(np.zeros((2, 2, 4), np.int64))).all()


def test_a_class_that_only_one_side_has_scores_nothing() -> None:
    counts = boundary_counts(np.zeros((4, 12), np.uint8), bar(4), 2)
    assert counts[1].tolist() == [[4, 0, 0, 0], [0, 0, 0, 0]]
    assert boundary_f_per_class(counts).tolist() == [[0, 0]] * 3


def slow_counts(mask: np.ndarray, prediction: np.ndarray, num_classes: int) -> list:
    """Pixel by pixel, pair by pair."""
    height, width = mask.shape

    def around(y: int, x: int) -> list[tuple[int, int]]:
        near = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        return [(a, b) for a, b in near if 0 <= a < height and 0 <= b < width]

    def line(found: np.ndarray, k: int) -> list[tuple[int, int]]:
        out = []
        for y, x in np.argwhere(found == k).tolist():
            void = any(mask[p] == VOID for p in [(y, x), *around(y, x)])
            if not void and any(found[p] != k for p in around(y, x)):
                out.append((y, x))
        return out

    def counted(own: list, other: list) -> list[int]:
        nearest = [min((math.dist(p, q) for q in other), default=math.inf) for p in own]
        return [len(own), *(sum(n <= d for n in nearest) for d in DISTANCES)]

    sides = [(line(prediction, k), line(mask, k)) for k in range(num_classes)]
    return [[counted(own, true), counted(true, own)] for own, true in sides]


def blobs(seed: int, void: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    out = np.kron(rng.integers(0, 3, (4, 5)), np.ones((5, 5), int)).astype(np.uint8)
    out[rng.random(out.shape) < 0.03] = 2
    out[rng.random(out.shape) < void] = VOID
    return out


@pytest.mark.parametrize("seed", range(4))
def test_as_the_slow_version_counts(seed: int) -> None:
    mask = blobs(seed, void=0.01 * seed)
    prediction = np.roll(blobs(seed), (seed, -1), (0, 1))
    counts = boundary_counts(mask, prediction, 3)
    assert counts.tolist() == slow_counts(mask, prediction, 3)
    f = 2 * counts[..., 1:].prod(1) / (counts[:, 0, 1:] * counts[:, 1, :1] + counts[:, 1, 1:] * counts[:, 0, :1])
    assert boundary_f(counts) == pytest.approx(f.mean(0))


@pytest.mark.parametrize("seed", range(4))
def test_what_holds_of_any_two_maps(seed: int) -> None:
    a, b = blobs(seed), blobs(seed + 10)
    there, back = boundary_counts(a, b, 3), boundary_counts(b, a, 3)
    assert (there == back[:, ::-1]).all(), "precision of one is recall of the other"
    f = boundary_f_per_class(there)
    assert (np.diff(f, axis=0) >= 0).all() and f[0].max() < 1, "a larger distance forgives more"
    assert (boundary_f_per_class(boundary_counts(a, a, 3)) == 1).all()
    turned = boundary_counts(np.rot90(a).copy(), np.rot90(b).copy(), 3)
    assert (turned == there).all()
    names = np.array([2, 0, 1], np.uint8)
    assert (boundary_counts(names[a], names[b], 3) == there[[1, 2, 0]]).all()
    assert (boundary_f(there + there) == boundary_f(there)).all(), "twice the same images score the same"
