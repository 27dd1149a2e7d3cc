"""A cell is a fact: shared, continued, or killed on the way, it is the same bit for bit."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seglab.run import checkpoints
from seglab.run.folder import Run, RunHeld, runs_of
from tests.conftest import GRID


def cells(study: Path) -> dict[str, Run]:
    return {run.folder.name: run for run in runs_of(study)}


def content(run: Run, path: Path) -> dict:
    return torch.load(path, weights_only=True)


def same(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def curves(run: Run) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(run.folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def settings(run: Run) -> dict:
    config = run.config()
    config["data"] = {k: v for k, v in config["data"].items() if k not in ("num_workers", "cache_dir")}
    return {k: v for k, v in config.items() if k not in ("output_dir", "study", "share")}


def assert_same_cell(a: Run, b: Run) -> None:
    """Everything but times and places."""
    assert a.folder.name == b.folder.name
    assert a.metrics_file.read_bytes() == b.metrics_file.read_bytes()
    for path in ("last_checkpoint", "best_checkpoint"):
        left, right = content(a, getattr(a, path)), content(b, getattr(b, path))
        for part in ("state_dict", "optimizer_states", "progress", "global_step", "tally"):
            assert same(left[part], right[part]), f"{a.folder.name}: {path}: {part}"
    assert curves(a) == curves(b)
    for name in (p.name for p in b.pictures.iterdir()):
        assert (a.pictures / name).read_bytes() == (b.pictures / name).read_bytes()
    for path in (b.records.validation_file, b.records.calibration_file, *b.records.maps.iterdir()):
        assert (a.folder / path.relative_to(b.folder)).read_bytes() == path.read_bytes()
    for results in (a.results(), b.results()):
        assert results["status"] == "done"
    times = ("train_seconds", "images_per_second")
    left, right = ({k: v for k, v in run.results().items() if k not in times} for run in (a, b))
    for results in (left, right):
        assert results["environment"].pop("finished")
    assert left == right
    assert settings(a) == settings(b)


def assert_same_study(a: Path, b: Path) -> None:
    assert cells(a).keys() == cells(b).keys()
    for name, run in cells(a).items():
        assert_same_cell(run, cells(b)[name])


@contextmanager
def breaking(name: str, when: Callable[..., bool] = lambda *_: True) -> Iterator[None]:
    """Within it every training breaks after a call of the recorder, of which all is written; or before its `finish`."""
    from seglab.training.recorder import Recorder

    original = getattr(Recorder, name)

    def broken(self, *arguments) -> None:
        if name != "finish":
            original(self, *arguments)
        self.writer.wait()
        if when(*arguments):
            raise RuntimeError("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, name, broken)
        yield


def failing_after_step(step: int) -> AbstractContextManager[None]:
    """Within it every training breaks within an epoch."""
    return breaking("on_train_batch_end", lambda trainer, *_: trainer.global_step == step)


def test_a_shared_grid_is_the_grid_of_cells_trained_alone(train, alone: Path, tmp_path: Path) -> None:
    message, said = train(*GRID, f"output_dir={tmp_path}/shared", "data.num_workers=2")
    assert message == ""
    assert "6 cells in 2 trainings: 8 epochs to train, 14 if each cell was trained alone" in said
    assert_same_study(tmp_path / "shared" / "default", alone)


def test_a_longer_run_goes_on_from_a_shorter_one(train, trained, copied, tmp_path: Path) -> None:
    copied("epochs=2", out=tmp_path / "twice")
    message, said = train("epochs=4", f"output_dir={tmp_path}/twice")
    assert message == "" and "resumes from epoch 2" in said and "epoch 2/4" not in said
    (once,) = cells(trained("epochs=4")).values()
    assert_same_cell(cells(tmp_path / "twice" / "default")[once.folder.name], once)


def test_a_shorter_run_of_a_finished_one_trains_only_what_was_not_kept(train, tmp_path: Path) -> None:
    assert train("-m", "epochs=1,4")[0] == ""
    message, said = train("epochs=2")
    assert message == "" and "resumes from epoch 1" in said
    assert train("epochs=2", f"output_dir={tmp_path}/other", "share=false")[0] == ""
    (other,) = cells(tmp_path / "other" / "default").values()
    assert_same_cell(cells(tmp_path / "default")[other.folder.name], other)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_within_an_epoch(train, trained, tmp_path: Path, workers: int) -> None:
    settings = ["epochs=3", "data.batch_size=2", "checkpoint_every_steps=2"]
    with failing_after_step(7):
        assert "failed: RuntimeError: killed" in train(*settings, f"output_dir={tmp_path}/twice")[0]
    (run,) = cells(tmp_path / "twice" / "default").values()
    assert content(run, run.last_checkpoint)["progress"] == {"epochs": 1, "batches": 2}
    assert train(*settings, f"output_dir={tmp_path}/twice", f"data.num_workers={workers}")[0] == ""
    (once,) = cells(trained(*settings)).values()
    assert_same_cell(run, once)


@pytest.mark.parametrize("schedule", ["step", "polynomial", "cosine", "wsd"])
def test_schedules_share_just_what_does_not_look_at_the_total(train, tmp_path: Path, schedule: str) -> None:
    settings = [f"schedule={schedule}", *(["schedule.every=1"] if schedule == "step" else [])]
    message, said = train("-m", "epochs=2,5", *settings, f"output_dir={tmp_path}/shared")
    assert message == ""
    trained = {"step": "1 trainings: 5 epochs", "wsd": "1 trainings: 6 epochs"}.get(schedule, "2 trainings: 7 epochs")
    assert f"2 cells in {trained} to train, 7 if each" in said
    assert ("looks at the total" in said) == (schedule in ("polynomial", "cosine"))
    assert train("-m", "epochs=2,5", *settings, f"output_dir={tmp_path}/alone", "share=false")[0] == ""
    assert_same_study(tmp_path / "shared" / "default", tmp_path / "alone" / "default")
    if schedule == "wsd":
        assert said.count("epoch 1/") == 1


def test_the_best_is_the_best_of_the_cells_own_epochs(train, tmp_path: Path) -> None:
    assert train("-m", "epochs=1,2,3,4")[0] == ""
    for run in runs_of(tmp_path / "default"):
        rows = run.metrics()
        best = max(rows, key=lambda row: row["val/miou"])
        assert len(rows) == run.config()["epochs"]
        assert run.results()["best"] == {"epoch": best["epoch"], "miou": best["val/miou"]}
        kept = content(run, run.best_checkpoint)
        assert kept["progress"]["epochs"] == best["epoch"]
        assert bool(kept["optimizer_states"]) == (best["epoch"] == len(rows)), "it goes on from the last one only"


def test_a_failed_cell_is_tried_again_and_a_finished_one_is_not(train, tmp_path: Path, monkeypatch) -> None:
    from seglab.task.task import SegmentationTask

    original = SegmentationTask.epoch_scores

    def full(self):
        if self.epoch == 3:
            raise OSError(28, "No space left on device")
        return original(self)

    monkeypatch.setattr(SegmentationTask, "epoch_scores", full)
    message, said = train(*GRID)
    assert "2 of 6 cells have no score" in message and "No space left on device" in said
    monkeypatch.setattr(SegmentationTask, "epoch_scores", original)
    message, said = train(*GRID)
    assert message == ""
    assert "6 cells in 2 trainings: 4 epochs to train" in said
    assert said.count("done already: ") == 1 and "failed, to resume: " in said
    assert said.count("resumes from epoch 2") == 2


def test_on_error_stop_ends_the_sweep(train, tmp_path: Path) -> None:
    message, _ = train("-m", "loss=focal", "loss.alpha=[1.0,1.0],[1.0,1.0,1.0,1.0]", "epochs=1", "on_error=stop")
    assert "2 of 2 cells have no score" in message
    assert sorted(run.results()["status"] for run in runs_of(tmp_path / "default")) == ["failed", "interrupted"]


def test_damaged_checkpoints_are_passed_over(train, trained, tmp_path: Path) -> None:
    (once,) = cells(trained("epochs=3")).values()
    with breaking("finish"):
        assert "killed" in train("epochs=2", f"output_dir={tmp_path}/broken")[0]
    for study, spoil in {
        "short": lambda data: data[: len(data) // 2],
        "flipped": lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
        "empty": lambda data: b"",
    }.items():
        (run,) = cells(Path(shutil.copytree(tmp_path / "broken" / "default", tmp_path / study / "default"))).values()
        run.last_checkpoint.rename(tmp_path / "whole")
        run.last_checkpoint.write_bytes(spoil((tmp_path / "whole").read_bytes()))
        assert checkpoints.read(run.last_checkpoint, run) is None
        found = checkpoints.own(run, once.results()["identity"], 3)
        assert found is not None and (found.epochs, found.path) == (1, run.previous_checkpoint)
        assert train("epochs=2", f"output_dir={tmp_path}/{study}")[0] == ""
        assert not run.previous_checkpoint.exists()
        assert train("epochs=3", f"output_dir={tmp_path}/{study}")[0] == ""
        assert_same_cell(cells(tmp_path / study / "default")[once.folder.name], once)


def test_a_disk_that_fills_up_while_saving_leaves_the_checkpoint_before(train, tmp_path: Path, monkeypatch) -> None:
    original = torch.save

    def full(content, file) -> None:
        if content["progress"]["epochs"] == 2:
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        original(content, file)

    monkeypatch.setattr(torch, "save", full)
    assert "No space left on device" in train("epochs=3")[0]
    (run,) = cells(tmp_path / "default").values()
    assert content(run, run.last_checkpoint)["progress"]["epochs"] == 1
    assert sorted(p.name for p in run.last_checkpoint.parent.iterdir()) == ["best.ckpt", "last.ckpt"]
    monkeypatch.setattr(torch, "save", original)
    message, said = train("epochs=3")
    assert message == "" and "resumes from epoch 1" in said


def test_a_checkpoint_of_another_identity_is_not_used(trained) -> None:
    (run,) = cells(trained("epochs=1")).values()
    assert checkpoints.own(run, "another", 5) is None


def test_a_run_is_held_by_one_process(train, copied) -> None:
    (run,) = cells(copied("epochs=1")).values()
    run.results_file.unlink()
    run.hold()
    try:
        message, _ = train("epochs=1")
        assert message.startswith(f"running: {run.folder} is being trained by process {os.getpid()} on ")
        with pytest.raises(RunHeld):
            Run(run.folder).hold()
        assert Run(run.folder).results()["status"] == "running"
    finally:
        run.release()
    assert Run(run.folder).results()["status"] == "interrupted"


def test_a_run_in_its_own_decay_gives_nothing_of_it_to_a_longer_one(train, tmp_path: Path) -> None:
    assert train("schedule=wsd", "epochs=2", f"output_dir={tmp_path}/twice")[0] == ""
    assert train("schedule=wsd", "epochs=5", f"output_dir={tmp_path}/twice")[0] == ""
    assert train("schedule=wsd", "epochs=5", f"output_dir={tmp_path}/once")[0] == ""
    (once,) = cells(tmp_path / "once" / "default").values()
    assert_same_cell(cells(tmp_path / "twice" / "default")[once.folder.name], once)


def test_a_cell_is_not_filled_from_the_middle_of_the_next_epoch(train, tmp_path: Path) -> None:
    settings = ["data.batch_size=2", "checkpoint_every_steps=2"]
    with failing_after_step(7):
        assert "killed" in train("epochs=3", *settings, f"output_dir={tmp_path}/twice")[0]
    assert train("-m", "epochs=1,3", *settings, f"output_dir={tmp_path}/twice")[0] == ""
    assert train("-m", "epochs=1,3", *settings, f"output_dir={tmp_path}/alone", "share=false")[0] == ""
    assert_same_study(tmp_path / "twice" / "default", tmp_path / "alone" / "default")


def test_a_run_that_goes_on_from_another_keeps_a_log_of_both(train, tmp_path: Path) -> None:
    assert train("epochs=1")[0] == "" and train("epochs=2")[0] == ""
    run = next(r for name, r in cells(tmp_path / "default").items() if "-e2-" in name)
    assert "epoch 1/1" in run.log_file.read_text() and "epoch 2/2" in run.log_file.read_text()


def test_a_longer_run_may_record_other_scores_than_the_shorter(train, tmp_path: Path) -> None:
    assert train("epochs=1", "score_train=true")[0] == "" and train("epochs=2")[0] == ""
    run = next(r for name, r in cells(tmp_path / "default").items() if "-e2-" in name)
    first, second = run.metrics()
    assert first["train_scored/miou"] >= 0 and second["train_scored/miou"] != second["train_scored/miou"]


def test_a_sweep_over_studies_shows_the_grid_of_each(train, tmp_path: Path) -> None:
    message, said = train("-m", "study=a,b", "epochs=1")
    assert message == ""
    for study in "ab":
        assert f"{tmp_path / study / 'grid.csv'} and grid.md hold the same" in said


@pytest.mark.parametrize("name", ["config.yaml", "counts.csv", "times.csv", "metrics.csv", "train.log"])
@pytest.mark.parametrize("how", ["empty", "folder"])
def test_a_damaged_run_gives_nothing_and_stops_nobody(train, copied, tmp_path: Path, name: str, how: str) -> None:
    study = copied("epochs=1", out=tmp_path)
    (run,) = cells(study).values()
    path = run.folder / name
    path.unlink()
    if how == "folder":
        path.mkdir()
    else:
        path.write_text("")
    message, said = train("epochs=2", "study=other")
    assert message == "", said
    assert ("resumes from" in said) == (name == "train.log")
