"""Checkpoints written by a thread: of the moment of the copy, whole or not there, and every error of it is raised."""

import os
import threading
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.profilers import PassThroughProfiler
from torch._subclasses.fake_tensor import FakeTensorMode

from seglab.run import checkpoints
from seglab.run.checkpoint_writer import CheckpointWriter
from seglab.run.folder import Run
from seglab.run.snapshot import Snapshot


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path)
    run.last_checkpoint.parent.mkdir()
    return run


def trainer_of(content: dict[str, Any], first: bool = True) -> Any:
    connector = SimpleNamespace(dump_checkpoint=lambda weights_only: content)
    return SimpleNamespace(_checkpoint_connector=connector, is_global_zero=first, profiler=PassThroughProfiler())


def content_of(epochs: int, weight: torch.Tensor) -> dict[str, Any]:
    progress = {"epochs": epochs, "batches": 0}
    optimizer = [{"state": {0: {"exp_avg": 2 * weight}}, "param_groups": [{"lr": 0.1, "params": [0]}]}]
    return {"state_dict": {"net.w": weight}, "optimizer_states": optimizer, "progress": progress, "identity": "i"}


def loaded(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def test_a_copy_has_the_form_of_its_source_and_keeps_its_memory():
    state = OrderedDict(
        a=torch.arange(6.0).reshape(2, 3), b=torch.ones(1, 2, 3, 3).to(memory_format=torch.channels_last)
    )
    state._metadata = {"": {"version": 2}}  # type: ignore[attr-defined]
    value = {"state": state, "steps": [torch.tensor(3), 4, ("x", None)]}
    snapshot = Snapshot()
    copy = snapshot.take(value)
    before = copy["state"]["a"].data_ptr()
    state["a"].zero_()
    assert torch.equal(copy["state"]["a"], torch.arange(6.0).reshape(2, 3))
    assert type(copy["state"]) is OrderedDict and copy["state"]._metadata == state._metadata
    assert copy["state"]["b"].stride() == state["b"].stride()
    assert copy["steps"] == [torch.tensor(3), 4, ("x", None)]
    again = snapshot.take(value)
    assert again["state"]["a"].data_ptr() == before and not again["state"]["a"].any()
    grown = snapshot.take({"state": {"a": torch.ones(2, 4)}})
    assert torch.equal(grown["state"]["a"], torch.ones(2, 4))


def test_of_a_gpu_the_copy_is_pinned_and_the_thread_waits_for_it(monkeypatch: pytest.MonkeyPatch):
    happened: list[str] = []

    class Event:
        def record(self, stream: str) -> None:
            happened.append(f"recorded in {stream}")

        def synchronize(self) -> None:
            happened.append("waited")

    made = torch.empty_like

    def empty(like: torch.Tensor, **how: Any) -> torch.Tensor:
        happened.append(f"{how}")
        return made(like, device="cpu")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")
    monkeypatch.setattr(torch, "empty_like", empty)
    snapshot = Snapshot()
    with FakeTensorMode():
        copy = snapshot.take(
            {"a": torch.ones(3, device="cuda"), "b": [torch.ones(2, device="cuda")], "c": torch.ones(1)}
        )
    assert all(v.device.type == "cpu" for v in (copy["a"], *copy["b"], copy["c"]))
    snapshot.wait()
    pinned = "{'device': 'cpu', 'pin_memory': True}"
    assert happened == [pinned, pinned, pinned.replace("True", "False"), "recorded in the stream of cuda:0", "waited"]


def test_a_checkpoint_is_of_the_moment_at_which_it_was_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch):
    go_on = threading.Event()
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda *what: go_on.wait(60) and save(*what))
    weight = torch.ones(3)
    with CheckpointWriter(run) as writer:
        writer.save(trainer_of(content_of(1, weight)), lambda: True)
        weight.zero_()
        assert not run.last_checkpoint.exists()
        go_on.set()
    assert torch.equal(loaded(run.last_checkpoint)["state_dict"]["net.w"], torch.ones(3))
    assert os.path.samefile(run.last_checkpoint, run.best_checkpoint)


def test_the_best_loses_its_optimiser_when_it_is_no_longer_the_last(run: Run):
    def save(epochs: int, best: bool) -> None:
        writer.save(trainer_of(content_of(epochs, torch.full((1000,), float(epochs)))), lambda: best)
        writer.wait()

    with CheckpointWriter(run) as writer:
        save(1, True)
        assert loaded(run.best_checkpoint)["optimizer_states"]
        save(2, False)
    whole = run.last_checkpoint.stat().st_size
    for epochs in (3, 4):  # also where another process wrote the best one
        with CheckpointWriter(run) as writer:
            save(epochs, epochs == 3)
        assert loaded(run.last_checkpoint)["progress"]["epochs"] == epochs
        assert run.last_checkpoint.stat().st_size == whole
    best = loaded(run.best_checkpoint)
    assert best["progress"] == {"epochs": 3, "batches": 0} and best["identity"] == "i"
    assert best["optimizer_states"] == []
    assert torch.equal(best["state_dict"]["net.w"], torch.full((1000,), 3.0))
    assert run.best_checkpoint.stat().st_size < whole - 3900
    assert checkpoints.own(run, "i", 9) == checkpoints.Found(4, 0, run.last_checkpoint, run)
    assert loaded(run.previous_checkpoint)["progress"]["epochs"] == 3


def test_a_link_planted_where_a_checkpoint_is_made_is_not_followed(run: Run, tmp_path: Path):
    (tmp_path / "mine").write_text("mine")
    run.last_checkpoint.with_suffix(".making").symlink_to(tmp_path / "mine")
    with CheckpointWriter(run) as writer:
        writer.save(trainer_of(content_of(1, torch.ones(3))))
    assert (tmp_path / "mine").read_text() == "mine" and not run.last_checkpoint.is_symlink()


def test_what_kept_the_thread_from_writing_is_raised_once_at_the_next_point(run: Run, monkeypatch, caplog):
    first = content_of(1, torch.ones(3))
    writer = CheckpointWriter(run)
    writer.save(trainer_of(first))
    writer.wait()
    original = torch.save

    def full(content: dict, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    writer.save(trainer_of(content_of(2, torch.ones(3))))
    with pytest.raises(OSError, match="No space left"):
        writer.save(trainer_of(content_of(3, torch.ones(3))))
    writer.wait()
    assert [p.name for p in run.last_checkpoint.parent.iterdir()] == ["last.ckpt"]
    assert loaded(run.last_checkpoint)["progress"]["epochs"] == 1
    with pytest.raises(OSError, match="No space left"), writer:
        writer.save(trainer_of(content_of(2, torch.ones(3))))
    with pytest.raises(ZeroDivisionError), CheckpointWriter(run) as writer:
        writer.save(trainer_of(content_of(2, torch.ones(3))))
        raise ZeroDivisionError
    assert "the last checkpoint was not written: [Errno 28] No space left on device" in caplog.text
    monkeypatch.setattr(torch, "save", original)


def test_of_processes_that_train_together_the_first_one_writes(run: Run):
    with CheckpointWriter(run) as writer:
        writer.save(trainer_of(content_of(1, torch.ones(3)), first=False), lambda: True)
    assert not list(run.last_checkpoint.parent.iterdir())
