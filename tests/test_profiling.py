"""Profiles and benchmarks: times that add up, the same bits with and without them, and nothing left behind."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from seglab.benchmark import benchmark
from seglab.config.parts import build_data
from seglab.profile import clock as profiling
from seglab.profile.clock import TRACED, WARM_UP, PhaseClock, kernels
from seglab.profile.phases import EPOCH_END, RUN_END, TRAINING, VALIDATION
from seglab.run.folder import Run, runs_of
from tests.conftest import run_train
from tests.test_conf import composed
from tests.test_train import equal, weights


def only_run(study: Path) -> Run:
    (run,) = runs_of(study)
    return run


@pytest.fixture(scope="module")
def profiled(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Six epochs of two steps. To be read only."""
    out = tmp_path_factory.mktemp("profiled")
    assert run_train(images, out, ("epochs=6", "profile=true")) == ""
    return only_run(out / "default")


def test_phases_add_up_to_their_part(profiled: Run) -> None:
    rows = profiled.profile()
    parts = {part: [r for r in rows if r["part"] == part] for part in (TRAINING, VALIDATION, EPOCH_END, RUN_END)}
    assert sum(map(len, parts.values())) == len(rows)
    for found in parts.values():
        *phases, whole = found
        assert whole["phase"] == "whole" and float(whole["share"]) == 1
        assert sum(float(r["mean_ms"]) for r in phases) == pytest.approx(float(whole["mean_ms"]), abs=0.001 * len(rows))
        assert sum(float(r["share"]) for r in phases) == pytest.approx(1, abs=0.001)
    named = {part: {r["phase"] for r in found} for part, found in parts.items()}
    assert named[TRAINING] >= {
        "data wait",
        "transfer",
        "forward",
        "loss",
        "backward",
        "optimiser",
        "metrics",
        "logging",
    }
    assert named[VALIDATION] >= {"data wait", "transfer", "forward", "loss", "metrics"}
    assert named[EPOCH_END] >= {"metrics", "TensorBoard", "checkpoint"}
    assert "maps and counts" in named[VALIDATION] and "pictures and pages" in named[RUN_END]
    counts = {part: int(found[0]["count"]) for part, found in parts.items()}
    assert counts == {
        TRAINING: 12 - WARM_UP - 1,
        VALIDATION: 5,
        EPOCH_END: 6,
        RUN_END: 1,
    }  # an epoch's end ends a trace


def test_the_text_says_the_same_and_names_operators_with_their_shapes(profiled: Run) -> None:
    text = profiled.profile_text.read_text()
    for row in profiled.profile():
        assert f"{float(row['mean_ms']):.1f}" in text and f"## {row['part']} (" in text
    assert "aten::convolution_backward" in text and "4x4x32x32" in text and "precision 32" in text
    assert text in profiled.log_file.read_text()


def test_a_profile_changes_no_bit_and_no_name(profiled: Run, train, tmp_path: Path) -> None:
    assert train("epochs=6")[0] == ""
    plain = only_run(tmp_path / "default")
    assert plain.folder.name == profiled.folder.name
    assert equal(weights(plain), weights(profiled))
    assert plain.metrics_file.read_bytes() == profiled.metrics_file.read_bytes()
    assert not plain.profile_table.exists() and not plain.profile_text.exists()


def test_a_run_that_is_done_has_nothing_left_to_profile(train, tmp_path: Path) -> None:
    assert train("epochs=1")[0] == ""
    message, _ = train("epochs=1", "profile=true")
    assert message.startswith("train.py: ") and "\n" not in message
    assert "is done, no step is left to profile; another study= or more epochs= have some" in message
    message, said = train("-m", "epochs=1", "profile=true")
    assert message == "" and "no step is left to profile" in said
    message, said = train("epochs=2", "profile=true")  # two steps, after those of epochs=1
    assert message == "" and "## training step (2 counted)" in said and "no more than 3 steps" in said
    message, said = train("epochs=2", "profile=true")
    assert message == "" and "is done; its profile is" in said


def test_a_training_that_fails_has_the_profile_of_what_it_did(train, tmp_path: Path) -> None:
    message, _ = train("optimizer.lr=1e30", "epochs=3", "data.batch_size=2", "profile=true")
    assert message.startswith("diverged: ") and only_run(tmp_path / "default").profile()


class Hooks:
    """A clock that is told what happens and when, in seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now, self.clock = 100.0, PhaseClock()
        monkeypatch.setattr(profiling, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def __call__(self, name: str, *within: "float | tuple") -> None:
        self.clock.start(name)
        for part in within:
            if isinstance(part, tuple):
                self(*part)
            else:
                self.now += part
        self.clock.stop(name)


def test_every_moment_belongs_to_the_innermost_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    happens = Hooks(monkeypatch)
    closure = ("[Strategy]S.training_step", 0.5, ("forward", 3.0), ("loss", 2.0)), ("[Strategy]S.backward", 7.0)
    happens("[Callback]Recorder.on_train_start", 50.0)  # before the first step
    happens("[_TrainingEpochLoop].train_dataloader_next", 1.0)
    happens("[Strategy]S.batch_to_device", 0.25, ("[LightningDataModule]D.on_after_batch_transfer", 0.25))
    happens.now += 0.125
    happens("[LightningModule]T.optimizer_step", *closure, ("[Callback]Gauges.on_before_optimizer_step", 0.75), 4.0)
    happens("[Callback]Recorder.on_train_batch_end", 0.0625)
    happens("[LightningModule]T.on_validation_model_zero_grad", 0.5)
    happens("[_EvaluationLoop].val_next", 1.5)
    happens("[Strategy]S.validation_step", ("forward", 2.5), 0.5)
    happens("[Callback]Recorder.on_validation_epoch_end", 0.0)
    happens("[Callback]Recorder.on_train_epoch_end", ("checkpoint", 1.0), 2.0)
    happens.clock.end()
    (step,), (val,), (end,) = (happens.clock.units[part] for part in (TRAINING, VALIDATION, EPOCH_END))
    assert {k: v for k, v in step.items() if v} == {
        **{"data wait": 1.0, "transfer": 0.5, "other": 0.125, "metrics": 1.25, "forward": 3.0, "loss": 2.0},
        **{"backward": 7.0, "optimiser": 4.0, "logging": 0.0625},
    }
    assert {k: v for k, v in val.items() if v} == {"data wait": 1.5, "forward": 2.5, "metrics": 0.5}
    assert {k: v for k, v in end.items() if v} == {"other": 0.5, "logging": 2.0, "checkpoint": 1.0}


def test_warm_up_traced_and_cut_steps_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    happens = Hooks(monkeypatch)
    for i in range(WARM_UP + TRACED + 3):
        happens("[_TrainingEpochLoop].train_dataloader_next", float(i))
        happens("[Strategy]S.training_step", ("forward", 1.0))
    happens.clock.end()  # in the middle of the last
    assert happens.clock.traced == TRACED
    assert [u["data wait"] for u in happens.clock.timed(TRAINING)] == [WARM_UP + TRACED, WARM_UP + TRACED + 1]


def test_operators_are_of_one_step() -> None:
    with torch.profiler.profile(record_shapes=True, acc_events=True) as trace:
        for _ in range(4):
            torch.ones(3, 5) @ torch.ones(5, 7)
    found = kernels(trace, 2, on_gpu=False)
    assert sum(k.share for k in found) == pytest.approx(1)
    assert found == sorted(found, key=lambda k: -k.ms)
    (product,) = (k for k in found if k.name == "aten::mm")
    assert (product.shapes, product.calls) == ("3x5, 5x7", 2)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "SECONDS", 0.0)


def test_a_benchmark_prints_its_numbers_and_leaves_nothing(train, tmp_path: Path, quick: None) -> None:
    message, said = train("benchmark=true", "threads=1")
    assert message == "" and not any(tmp_path.iterdir())
    assert "unet, cross_entropy, 4 images of 32 x 32 a step, precision 32, cpu, 1 threads" in said
    lines = [[cell.strip() for cell in line.split("|")] for line in said.splitlines() if line.startswith("| ")]
    head, _, *rows = lines
    assert head[2:6] == ["images/s", "without loading", "s/step", "peak memory"]
    assert [row[1] for row in rows] == ["training step", "validation step"]
    for row in rows:
        assert all(float(n) > 0 for n in row[2:5]) and float(row[5].removesuffix(" GiB")) > 0


def test_a_benchmark_measures_what_it_says(images: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGLAB_CACHE", str(images.parent / "cache"))
    data = build_data(composed("data=folder", f"data.root={images}", "data.batch_size=3"))
    data.setup()
    feed = benchmark.Feed(data, data.train_dataloader())
    feed.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")))  # type: ignore[assignment]
    made = [feed.on_after_batch_transfer(batch, 0) for batch in feed]
    warm, blocks = made[: benchmark.WARM_UP], [made[i : i + 3] for i in range(benchmark.WARM_UP, len(made), 3)]
    assert [len(b["mask"]) for b in made[:7]] == [3, 3, 2, 3, 3, 2, 3] and len(blocks) == 2 * benchmark.BLOCKS
    assert all(batch is warm[0] for block in blocks[1::2] for batch in block)  # the held one
    assert not any(batch is warm[0] for block in blocks[::2] for batch in block)
    for way, found in zip(benchmark.WAYS, (blocks[::2], blocks[1::2]), strict=True):
        counted = [(sum(len(b["mask"]) for b in block), 3) for block in found]
        assert [(images, steps) for images, steps, _ in feed.blocks[way]] == counted
    assert list(feed) == []


def test_a_sweep_of_benchmarks_is_one_table(train, tmp_path: Path, quick: None) -> None:
    message, said = train("-m", "loss=dice,cross_entropy", "epochs=1,2", "seed=0,1", "benchmark=true")
    assert message == "" and not any(tmp_path.iterdir())
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in said.splitlines() if line.startswith("|")]
    head, _, *rows = lines[-4:]
    assert [row[0].split()[0] for row in rows] == ["loss=dice", "loss=cross_entropy"]
    assert head[1] == "training images/s" and head[6] == "validation without loading"
    assert all(float(row[i]) > 0 for row in rows for i in (1, 2, 3, 5, 6, 7))


def test_a_combination_without_numbers_is_named(train, tmp_path: Path, quick: None) -> None:
    message, said = train("-m", "loss=dice", "optimizer.lr=1e30,0.1", "benchmark=true")
    assert message == "1 of 2 combinations have no numbers, see above"
    assert "failed: optimizer.lr=1e+30: NotFinite: the train loss is" in said
    assert not any(tmp_path.iterdir())


WRONG = [
    (("profile=yes",), "profile='yes': input should be a valid boolean"),
    (("benchmark=3",), "benchmark=3: input should be a valid boolean"),
    (("profile=true", "benchmark=true"), "profile=true with benchmark=true: accepted is one of them"),
    (("benchmark=true", "trainer=ddp"), "benchmark=true with trainer.strategy=ddp: it measures one device"),
    (("-m", "benchmark=true,false"), "benchmark=true,false: accepted is one of them in a sweep"),
    (("-m", "benchmark=true", "hydra/launcher=joblib"), "benchmark=true with hydra/launcher"),
]


@pytest.mark.parametrize(("overrides", "message"), WRONG, ids=lambda v: " ".join(v) if isinstance(v, tuple) else "")
def test_what_is_refused_is_one_line(train, tmp_path: Path, overrides: tuple[str, ...], message: str) -> None:
    said, _ = train(*overrides)
    assert said.startswith("train.py: ") and message in said and "\n" not in said
    assert not list(tmp_path.glob("*/*/config.yaml"))
