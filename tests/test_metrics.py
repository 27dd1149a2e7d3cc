"""Scores: by hand, and against counting pixel by pixel; tests/test_cross_check.py compares them with others'."""

import numpy as np
import pytest
import torch

from seglab.labels import VOID
from seglab.maps.scoring import confusion_each
from seglab.scores import (
    SCORES,
    Score,
    confusion,
    flattened,
    iou_per_class,
    keys,
    mean_of_present,
    miou,
    nested,
    scores,
)


def counted_iou(prediction: np.ndarray, mask: np.ndarray, k: int) -> float:
    """Slow and independent: sets of pixel positions."""
    hit = {i for i, v in enumerate(prediction.ravel()) if v == k and mask.ravel()[i] != VOID}
    true = {i for i, v in enumerate(mask.ravel()) if v == k}
    return len(hit & true) / len(hit | true) if hit | true else float("nan")


NONE = float("nan")

MATRICES = [  # rows true, columns predicted
    [[3, 1], [0, 4]],
    [[5, 0, 0], [0, 5, 0], [0, 0, 0]],  # an absent class is absent, not 0
    [[0, 2], [2, 0]],
    [[2, 2, 0], [0, 0, 0], [0, 0, 0]],  # predicted though absent: IoU 0
]

BY_HAND = {
    "miou": [(3 / 4 + 4 / 5) / 2, 1.0, 0.0, 1 / 4],
    "dice": [(6 / 7 + 8 / 9) / 2, 1.0, 0.0, 1 / 3],
    "accuracy": [7 / 8, 1.0, 0.0, 1 / 2],
    "iou": [[3 / 4, 4 / 5], [1.0, 1.0, NONE], [0.0, 0.0], [1 / 2, 0.0, NONE]],
    "majority_miou": [1 / 4, 1 / 4, 1 / 4, 1.0],
}
"""Of each score its values for MATRICES."""


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.name)
def test_by_hand(score: Score) -> None:
    assert score.name in BY_HAND, "add its values for MATRICES, worked out by hand"
    for matrix, want in zip(MATRICES, BY_HAND[score.name], strict=True):
        assert score.of(np.array(matrix)).tolist() == pytest.approx(want, abs=1e-12, nan_ok=True)


def test_against_counting_with_void_pixels() -> None:
    rng = np.random.default_rng(0)
    mask, prediction = rng.choice([0, 1, 2, 4, VOID], (2, 9, 11)), rng.integers(0, 5, (2, 9, 11))
    cm = confusion(mask, prediction, 5)
    on_the_device = confusion_each(torch.tensor(prediction), torch.tensor(mask, dtype=torch.uint8), 5)
    assert (on_the_device.sum(0).numpy() == cm).all()
    assert int(cm.sum()) == (mask != VOID).sum()
    want = [counted_iou(prediction, mask, k) for k in range(5)]
    assert iou_per_class(cm).tolist() == pytest.approx(want)


def test_batches_add_up_to_the_whole_split() -> None:
    mask, prediction = np.random.default_rng(0).integers(0, 4, (2, 6, 8, 8))
    whole = confusion(mask, prediction, 4)
    assert (whole == sum(confusion(mask[i : i + 4], prediction[i : i + 4], 4) for i in (0, 4))).all()


def test_many_matrices_at_once_and_absent_classes_left_out() -> None:
    counts = np.random.default_rng(0).integers(0, 50, (4, 3, 3))
    counts[1, 2], counts[1, :, 2] = 0, 0
    for score in SCORES:
        assert np.array_equal(score.of(counts), np.stack([score.of(c) for c in counts]), equal_nan=True)
    assert np.isnan(miou(np.zeros((2, 2))))


@pytest.mark.parametrize("num_classes", range(2, 20))
def test_a_mean_has_the_last_bit_of_torchs(num_classes: int) -> None:
    """Scores of earlier runs were computed by torch's nanmean; the same counts must give the same number."""
    rng = np.random.default_rng(num_classes)
    values = np.where(rng.random((300, num_classes)) < 0.2, np.nan, rng.random((300, num_classes)))
    want = [float(torch.from_numpy(v).nanmean()) for v in values]
    assert np.array_equal(mean_of_present(values), want, equal_nan=True)


def test_it_moves_where_the_originals_metric_stood_still() -> None:
    """The library metric the original logged said 0.375 whatever unsaturated probabilities it was fed (SEED)."""
    mask = np.tile(np.arange(4), (1, 25, 25))
    seen = []
    for right in (0.1, 0.5, 0.9):
        wrong = np.random.default_rng(0).random(mask.shape) > right
        seen.append(float(miou(confusion(mask, np.where(wrong, (mask + 1) % 4, mask), 4))))
    assert seen[0] < seen[1] < seen[2]


def test_names_of_scores() -> None:
    names = ["a", "b", "c"]
    got = scores(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]]), names)
    assert list(got) == [key for score in SCORES for key in keys(score, names)]
    assert {"miou", "dice", "accuracy", "iou/a", "iou/b", "iou/c", "majority_miou"} <= got.keys()
    assert got["iou/c"] != got["iou/c"]
    kept = nested(got, names)
    assert next(iter(kept)) == "miou" and "majority_miou" not in kept and list(kept["iou"]) == names
    assert flattened(kept).keys() == got.keys() - {"majority_miou"}
