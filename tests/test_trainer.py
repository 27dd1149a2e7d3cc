"""The Trainer's arguments: those that may be set are right, and every other one is refused with its reason."""

import inspect
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from seglab.config.constructors import INJECTED
from seglab.config.schema import Config, ConfigError
from seglab.config.trainer import ACCEPTED, REFUSED, check_trainer
from tests.conftest import ROOT
from tests.test_resume import assert_same_cell, assert_same_study, cells, content

SMALL = ["data.batch_size=2", "data.augment=[]"]
"""Eight images train: four batches an epoch."""


def test_every_argument_is_accepted_or_refused_with_a_reason() -> None:
    arguments = inspect.signature(pl.Trainer).parameters.keys()
    assert arguments == ACCEPTED.keys() | REFUSED.keys() and not ACCEPTED.keys() & REFUSED.keys()
    assert INJECTED["trainer"] <= REFUSED.keys()
    page = (ROOT / "docs" / "commands.md").read_text()
    assert not {key for key in ACCEPTED if f"| `{key}` |" not in page}


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"max_time": "00:00:00:02"}, "trainer.max_time can't be set: a cell of N epochs trains all of them"),
        ({"limit_val_batches": 1}, "trainer.limit_val_batches can't be set: a score is of all images of its split"),
        ({"acumulate_grad_batches": 2}, "no such key; did you mean accumulate_grad_batches?"),
        ({"accumulate_grad_batches": 0}, "trainer.accumulate_grad_batches=0: accepted is a whole number from 1"),
        ({"accumulate_grad_batches": {"0": 4}}, "accepted is a whole number from 1"),
        ({"gradient_clip_val": 0}, "trainer.gradient_clip_val=0: accepted is a number above 0"),
        ({"gradient_clip_algorithm": "value"}, "trainer.gradient_clip_algorithm needs trainer.gradient_clip_val="),
        ({"benchmark": True, "deterministic": "warn"}, "accepted is that or trainer.deterministic="),
        ({"strategy": "fsdp"}, "trainer.strategy='fsdp': accepted is auto or ddp"),
        ({"devices": 2}, "trainer.devices=2: several devices for one training need trainer=ddp"),
        ({"_target_": "seglab.losses.Dice"}, "accepted is pytorch_lightning.Trainer"),
    ],
)
def test_what_would_make_a_cell_untrue_is_refused(trainer: dict, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_trainer(Config.of({"trainer": {"devices": 1, **trainer}}))
    assert message in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "trainer",
    [
        {"devices": [1], "gradient_clip_val": 1, "gradient_clip_algorithm": "value", "deterministic": "warn"},
        {"devices": 4, "strategy": "ddp", "num_nodes": 2, "accumulate_grad_batches": 3, "gradient_clip_val": None},
    ],
)
def test_what_may_be_set(trainer: dict) -> None:
    check_trainer(Config.of({"trainer": trainer}))


def test_a_refused_argument_is_one_line_with_or_without_a_plus(train, tmp_path: Path) -> None:
    for plus in ("+", ""):
        said, _ = train(f"{plus}trainer.check_val_every_n_epoch=2")
        assert said.startswith("train.py: trainer.check_val_every_n_epoch can't be set: ") and "\n" not in said
    assert not (tmp_path / "default").exists()


def test_steps_of_several_batches_are_steps_of_larger_ones(train, tmp_path: Path) -> None:
    # batch norm sees each batch by itself, and Adam's first step is the sign of a gradient, which last bits turn
    exact = ["model.batch_norm=false", "optimizer._target_=torch.optim.SGD", "optimizer.lr=0.1"]
    settings = [*exact, "data.augment=[]", "epochs=2", "schedule=polynomial"]
    assert train(*settings, "data.batch_size=6", "study=large")[0] == ""
    assert train(*settings, "data.batch_size=2", "trainer.accumulate_grad_batches=3", "study=added")[0] == ""
    (large,), (added,) = (cells(tmp_path / study).values() for study in ("large", "added"))
    left, right = (content(run, run.last_checkpoint) for run in (large, added))
    assert left["global_step"] == right["global_step"] == 4  # of 8 images: 6 and 2, twice
    assert all(torch.allclose(left["state_dict"][k], v, atol=1e-5) for k, v in right["state_dict"].items())
    last = [run.metrics()[-1] for run in (large, added)]
    assert last[0]["learning_rate"] == last[1]["learning_rate"] == pytest.approx(0.1 * (1 - 3 / 4) ** 0.9)
    assert last[0]["gradient/encoder"] == pytest.approx(last[1]["gradient/encoder"], rel=1e-3)


def test_every_batch_has_draws_of_its_own(train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from seglab.task.task import SegmentationTask

    seeds: dict[int, list[int]] = {1: [], 3: []}
    steps: list[int] = []
    original = SegmentationTask.training_step

    def watched(self, batch, batch_idx):
        seeds[self.trainer.accumulate_grad_batches].append(torch.initial_seed())
        if self.trainer.accumulate_grad_batches == 1:
            steps.append(self.global_step - self.epoch * 4 - batch_idx)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(SegmentationTask, "training_step", watched)
    for together in seeds:
        assert train(*SMALL, f"trainer.accumulate_grad_batches={together}", "epochs=2")[0] == ""
    assert len(set(seeds[1])) == 8 and seeds[1] == seeds[3] and steps == [0] * 8


@pytest.mark.parametrize("together", [2, 3])
def test_a_run_goes_on_between_two_steps(train, tmp_path: Path, monkeypatch, together: int) -> None:
    from seglab.training.recorder import Recorder

    settings = [*SMALL, f"trainer.accumulate_grad_batches={together}", "epochs=2", "checkpoint_every_steps=1"]
    assert train(*settings, f"output_dir={tmp_path}/once")[0] == ""
    original = Recorder.on_train_batch_end

    def killed(self, trainer, task, outputs, batch, batch_idx) -> None:
        original(self, trainer, task, outputs, batch, batch_idx)
        if task.epoch == 1 and batch_idx == together:  # one batch of the second step
            raise RuntimeError("killed")

    monkeypatch.setattr(Recorder, "on_train_batch_end", killed)
    assert "killed" in train(*settings, f"output_dir={tmp_path}/twice")[0]
    monkeypatch.setattr(Recorder, "on_train_batch_end", original)
    (run,) = cells(tmp_path / "twice" / "default").values()
    assert content(run, run.last_checkpoint)["progress"] == {"epochs": 1, "batches": together}
    assert train(*settings, f"output_dir={tmp_path}/twice")[0] == ""
    (once,) = cells(tmp_path / "once" / "default").values()
    assert_same_cell(run, once)


def test_a_shared_row_is_that_of_cells_trained_alone(train, tmp_path: Path) -> None:
    settings = [*SMALL, "-m", "epochs=2,5", "schedule=wsd", "trainer.accumulate_grad_batches=3"]
    message, said = train(*settings, f"output_dir={tmp_path}/shared")
    assert message == "" and "2 cells in 1 trainings: 6 epochs" in said
    assert train(*settings, f"output_dir={tmp_path}/alone", "share=false")[0] == ""
    assert_same_study(tmp_path / "shared" / "default", tmp_path / "alone" / "default")


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradients_are_clipped_as_a_fused_optimiser_sees_them(train, tmp_path, monkeypatch, precision, algorithm):
    seen: list[torch.Tensor] = []
    original = torch.optim.Adam.step

    def step(self, closure):
        def watched():
            loss = closure()
            gradients = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
            seen.append(torch.cat(gradients))
            return loss

        return original(self, watched)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    clip = ["trainer.gradient_clip_val=0.01", f"trainer.gradient_clip_algorithm={algorithm}"]
    message, _ = train(*SMALL, *clip, f"precision={precision}", "epochs=1")
    assert message == "" and len(seen) == 4
    sizes = [float(g.norm() if algorithm == "norm" else g.abs().max()) for g in seen]
    assert sizes == pytest.approx([0.01] * 4, rel=1e-3)
    (run,) = cells(tmp_path / "default").values()
    assert run.metrics()[0]["gradient/decoder"] > 0.02  # the gauges' norms are those before
