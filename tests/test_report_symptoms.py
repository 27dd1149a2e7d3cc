"""Each warning for the training that deserves it, and none for a healthy one."""

from pathlib import Path

import pytest

from seglab.report.study import read_study
from seglab.report.symptoms import symptoms
from tests.study import add_cell, draw_labels, rows_of, spoil

LABELS = draw_labels(4)


def warned(study: Path, rows: list[dict[str, float]], maps=None, results=None) -> list[str]:
    maps = spoil(LABELS, 0.1) if maps is None and results is None else maps
    add_cell(study, "dice", len(rows), LABELS, maps, rows=rows, results=results)
    (table,) = read_study(study)
    return symptoms(table)


def test_a_healthy_training_has_none(tmp_path: Path) -> None:
    assert warned(tmp_path, rows_of(5)) == []


@pytest.mark.parametrize(("more", "words"), [
    ({"gradient/encoder": 0.0005}, "the encoder hardly learns: in 5 of 5 epochs"),
    ({"gradient/encoder": 0.0}, "the encoder hardly learns"),
    ({"val/loss": float("nan")}, "the val loss of epoch 1 is not finite"),
    ({"batch_norm_gap": 0.9}, "running statistics are far from those of the last batch (0.90"),
])  # fmt: skip
def test_what_metrics_tell(tmp_path: Path, more: dict[str, float], words: str) -> None:
    (found,) = warned(tmp_path, rows_of(5, **more))
    assert words in found and found.startswith("dice, 5 epochs: ")


def test_a_frozen_encoder_is_not_dead(tmp_path: Path) -> None:
    assert warned(tmp_path, rows_of(5, **{"gradient/encoder": float("nan")})) == []


def test_training_that_rises_while_validation_falls(tmp_path: Path) -> None:
    rows = rows_of(6)
    for row, val, train in zip(rows, (0.2, 0.5, 0.48, 0.46, 0.45, 0.44), (0.2, 0.5, 0.6, 0.7, 0.8, 0.9), strict=True):
        row |= {"val/miou": val, "train_scored/miou": train}
    (found,) = warned(tmp_path, rows)
    assert "overfitting since epoch 2. Validation mIoU fell by 0.060" in found
    assert "while that of the training images rose by 0.400. Fewer epochs" in found


def test_a_class_that_is_never_predicted(tmp_path: Path) -> None:
    (found,) = warned(tmp_path, rows_of(2), LABELS.clip(max=1))
    assert "tree is never predicted, though " in found and found.endswith("% of the labelled pixels are tree.")


def test_a_training_that_diverged(tmp_path: Path) -> None:
    (found,) = warned(
        tmp_path, rows_of(2), results={"status": "diverged", "reason": "NotFinite: the train loss is nan"}
    )
    assert "the loss is not finite: NotFinite: the train loss is nan" in found
