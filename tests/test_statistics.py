"""Statistics by hand, against a slow independent version, and by whether intervals hold what they promise."""

import math

import numpy as np
import pytest

from seglab.report.statistics import difference, holm, resampled, seed_mean, sums_by_unit
from seglab.scores import miou
from tests import reference


def units(seed: int, count: int, k: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 50, (count, k, k))


def test_images_add_up_to_their_scenes() -> None:
    counts = units(0, 4)
    got = sums_by_unit(counts, ["b", "a", "b", "c"])
    assert (got == np.stack([counts[0] + counts[2], counts[1], counts[3]])).all()


def test_the_bootstrap_has_the_spread_of_all_samples_there_are() -> None:
    a, b = units(1, 4), units(2, 4)
    drawn = resampled([a, b], draws=20000)
    exact = reference.bootstrap_differences(a, b)  # all 4^4 ways to draw 4 units
    assert (drawn[:, 0] - drawn[:, 1]).mean() == pytest.approx(np.mean(exact), abs=3 * np.std(exact) / 20000**0.5)
    assert (drawn[:, 0] - drawn[:, 1]).std() == pytest.approx(np.std(exact), rel=0.03)


def test_samples_are_paired_and_the_same_again() -> None:
    a = units(1, 30)
    drawn = resampled([a, a.copy(), units(2, 30)])
    assert (drawn[:, 0] == drawn[:, 1]).all() and drawn[:, 0].std() > 0
    assert (resampled([a, a, units(2, 30)]) == drawn).all()
    assert (resampled([a], draws=10, seed=1) != resampled([a], draws=10, seed=0)).any()


def test_an_interval_by_hand() -> None:
    samples = np.array([0.0, 0.2] * 50)  # standard error 0.1005, and 10 / 9 times its square
    got = difference([0.5], [0.4], samples, 10)
    error = math.sqrt(samples.var(ddof=1) * 10 / 9)
    assert got.error == pytest.approx(error)
    assert (got.low, got.high) == pytest.approx((0.1 - 2.2622 * error, 0.1 + 2.2622 * error), abs=1e-4)
    assert got.p == pytest.approx(reference.t_two_sided(0.1 / error, 9), abs=1e-4)


def test_seeds_widen_an_interval() -> None:
    samples = np.random.default_rng(0).normal(0, 0.01, 500)
    alone = difference([0.5], [0.4], samples, 20)
    steady = difference([0.5, 0.52, 0.54], [0.4, 0.42, 0.44], samples, 20)
    shaky = difference([0.5, 0.6, 0.4], [0.4, 0.3, 0.5], samples, 20)
    assert steady.value == pytest.approx(alone.value) and steady.p == pytest.approx(alone.p)
    assert alone.p < 0.001 and shaky.p > 0.2 and shaky.low < 0 < shaky.high
    with pytest.raises(ValueError, match="paired seeds are as many"):
        difference([0.5, 0.6], [0.4], samples, 20)


def test_equal_cells_are_not_distinguishable() -> None:
    got = difference([0.5], [0.5], np.zeros(100), 20)
    assert (got.value, got.low, got.high, got.p) == (0, 0, 0, 1)


def test_mean_over_seeds_by_hand() -> None:
    got = seed_mean([0.2, 0.3, 0.4])
    assert (got.value, got.n) == (pytest.approx(0.3), 3)
    assert got.high - got.value == pytest.approx(4.3027 * 0.1 / math.sqrt(3), abs=1e-5)
    one = seed_mean([0.2])
    assert one.value == 0.2 and one.n == 1 and math.isnan(one.low) and math.isnan(one.high)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def cell(rng: np.random.Generator, count: int, accuracy: float) -> np.ndarray:
    """Counts of `count` units with 1000 pixels of each of two classes, about `accuracy` of them right."""
    right = 1000 * np.clip(rng.normal(accuracy, 0.04, (count, 2)), 0, 1)
    counts = np.empty((count, 2, 2))
    counts[:, [0, 1], [0, 1]], counts[:, [0, 1], [1, 0]] = right, 1000 - right
    return counts


@pytest.mark.parametrize("count", [10, 30])
def test_of_95_percent_intervals_about_95_percent_hold_the_truth(count: int) -> None:
    rng, held = np.random.default_rng(count), 0
    truth = 0.9 / 1.1 - 0.8 / 1.2  # IoU of both classes at accuracy 0.9 and 0.8
    for trial in range(300):
        cells = [cell(rng, count, accuracy) for accuracy in (0.9, 0.8)]
        drawn = resampled(cells, draws=200, seed=trial)
        a, b = (float(miou(c.sum(0))) for c in cells)
        got = difference([a], [b], drawn[:, 0] - drawn[:, 1], count)
        held += got.low <= truth <= got.high
    assert 0.91 <= held / 300 <= 0.985
