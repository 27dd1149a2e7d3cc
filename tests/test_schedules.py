"""Learning rate schedules: by hand, and what each promises of the epochs it shares."""

import math
from pathlib import Path

import pytest
import yaml

from seglab.task.schedules import Constant, Cosine, Polynomial, StepByEpoch, WarmupStableDecay

FILES = sorted((Path(__file__).parent.parent / "conf" / "schedule").glob("*.yaml"))

BY_HAND = [
    (Constant(), 3.5, 10, 1.0),
    (Constant(warmup_epochs=2), 0.5, 10, 0.25),
    (Constant(warmup_epochs=2), 2.0, 10, 1.0),
    (StepByEpoch(every=3, gamma=0.1), 2.99, 10, 1.0),
    (StepByEpoch(every=3, gamma=0.1), 6.0, 10, 0.01),
    (Polynomial(power=2), 5.0, 10, 0.25),
    (Cosine(), 5.0, 10, 0.5),
    (Cosine(end=0.2), 10.0, 10, 0.2),
    (WarmupStableDecay(), 7.9, 10, 1.0),
    (WarmupStableDecay(), 9.0, 10, 0.5),
    (WarmupStableDecay(), 10.0, 10, 0.0),
    (WarmupStableDecay(decay=0), 10.0, 10, 1.0),
]


@pytest.mark.parametrize(("schedule", "epoch", "epochs", "factor"), BY_HAND)
def test_by_hand(schedule: Constant, epoch: float, epochs: int, factor: float) -> None:
    assert schedule.factor(epoch, epochs) == pytest.approx(factor)


def made(path: Path) -> Constant:
    import seglab.task.schedules

    arguments = yaml.safe_load(path.read_text())
    return getattr(seglab.task.schedules, arguments.pop("_target_").rpartition(".")[2])(**arguments)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_shared_epochs_are_those_of_every_longer_training(path: Path) -> None:
    schedule = made(path)
    for epochs in range(1, 40):
        shared = schedule.shared_epochs(epochs)
        assert 0 <= shared <= epochs
        for longer in (epochs, epochs + 1, 2 * epochs, 100):
            assert schedule.shared_epochs(longer) >= shared
            for step in range(4 * shared):
                assert schedule.factor(step / 4, epochs) == schedule.factor(step / 4, longer)
        for step in range(4 * epochs):
            assert math.isfinite(schedule.factor(step / 4, epochs))


def test_the_original_grid_costs_342_epochs_with_decays() -> None:
    schedule, cells = WarmupStableDecay(), (20, 50, 100)
    decays = sum(e - schedule.shared_epochs(e) for e in cells)
    assert 3 * (schedule.shared_epochs(100) + decays) == 342


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(warmup_epochs=-1), "warmup_epochs=-1: accepted is a number of at least 0"),
        (lambda: StepByEpoch(every=0), "every=0: accepted is a number of at least 1"),
        (lambda: WarmupStableDecay(decay=1.5), "decay=1.5: accepted is a number from 0 to 1"),
    ],
)
def test_wrong_arguments(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
