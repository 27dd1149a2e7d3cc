"""Scores: by hand, against counting pixel by pixel, and against the original system's values."""

from pathlib import Path

import numpy as np
import pytest
import torch

from seglab.labels import VOID
from seglab.scores import accuracy, confusion_matrix, dice, iou_per_class, majority_miou, miou, scores

CASES = ["random", "near", "absent", "single"]


def counted_iou(prediction: np.ndarray, mask: np.ndarray, k: int) -> float:
    """Slow and independent: sets of pixel positions."""
    hit = {i for i, v in enumerate(prediction.ravel()) if v == k and mask.ravel()[i] != VOID}
    true = {i for i, v in enumerate(mask.ravel()) if v == k}
    return len(hit & true) / len(hit | true) if hit | true else float("nan")


# rows true, columns predicted; expected mIoU, dice, accuracy, constant prediction
BY_HAND = [
    ([[3, 1], [0, 4]], (3 / 4 + 4 / 5) / 2, (6 / 7 + 8 / 9) / 2, 7 / 8, 1 / 4),
    ([[5, 0, 0], [0, 5, 0], [0, 0, 0]], 1.0, 1.0, 1.0, 1 / 4),  # an absent class is absent, not 0
    ([[0, 2], [2, 0]], 0.0, 0.0, 0.0, 1 / 4),
    ([[2, 2, 0], [0, 0, 0], [0, 0, 0]], 1 / 4, 1 / 3, 1 / 2, 1.0),  # predicted though absent: IoU 0
]


@pytest.mark.parametrize(("cm", "want_miou", "want_dice", "want_accuracy", "constant"), BY_HAND)
def test_by_hand(cm, want_miou, want_dice, want_accuracy, constant) -> None:
    counts = torch.tensor(cm)
    got = [float(f(counts)) for f in (miou, dice, accuracy, majority_miou)]
    assert got == pytest.approx([want_miou, want_dice, want_accuracy, constant], abs=1e-12)


def test_against_counting_with_void_pixels() -> None:
    rng = np.random.default_rng(0)
    mask, prediction = rng.choice([0, 1, 2, 4, VOID], (2, 9, 11)), rng.integers(0, 5, (2, 9, 11))
    cm = confusion_matrix(torch.tensor(prediction), torch.tensor(mask, dtype=torch.uint8), 5)
    assert int(cm.sum()) == (mask != VOID).sum()
    want = [counted_iou(prediction, mask, k) for k in range(5)]
    assert iou_per_class(cm).tolist() == pytest.approx(want)


def test_batches_add_up_to_the_whole_split() -> None:
    generator = torch.Generator().manual_seed(0)
    mask, prediction = torch.randint(0, 4, (2, 6, 8, 8), generator=generator)
    whole = confusion_matrix(prediction, mask, 4)
    assert torch.equal(whole, sum(confusion_matrix(prediction[i : i + 4], mask[i : i + 4], 4) for i in (0, 4)))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", ["A", "B"])
def test_same_as_the_originals_metric_where_that_was_right(shared: Path, shape: str, case: str) -> None:
    golden = np.load(shared / "golden" / "original_losses.npz")
    probs, mask = golden[f"{shape}/{case}/probs"], golden[f"{shape}/{case}/labels"]
    cm = confusion_matrix(torch.tensor(probs).argmax(-1), torch.tensor(mask), 4)
    assert cm.tolist() == golden[f"{shape}/{case}/MeanIou/cm"].tolist()
    if case in ("random", "near"):  # all classes occur; where one does not, the original counts it otherwise
        assert float(miou(cm)) == pytest.approx(float(golden[f"{shape}/{case}/MeanIou/value"]), rel=1e-5)


def test_it_moves_where_the_originals_metric_stood_still() -> None:
    """The library metric the original logged said 0.375 whatever unsaturated probabilities it was fed (SEED)."""
    mask = torch.arange(4).repeat(1, 25, 25)
    seen = []
    for right in (0.1, 0.5, 0.9):
        wrong = torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)) > right
        seen.append(float(miou(confusion_matrix(torch.where(wrong, (mask + 1) % 4, mask), mask, 4))))
    assert seen[0] < seen[1] < seen[2]


def test_names_of_scores() -> None:
    got = scores(torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 0]]), ["a", "b", "c"])
    assert list(got) == ["miou", "dice", "accuracy", "iou/a", "iou/b", "iou/c"]
    assert got["iou/c"] != got["iou/c"]
