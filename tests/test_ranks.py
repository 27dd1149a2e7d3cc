"""Two processes that train together: equal weights, unequal numbers of batches, and a loss that one of them loses."""

import os
import shutil
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from seglab.run.folder import Run, runs_of
from seglab.task.finite import LossWatch, NotFinite
from tests.commands import Started, as_typed
from tests.conftest import ROOT
from tests.conftest import command as small

DDP = ("trainer=ddp", "trainer.accelerator=cpu", "threads=1")


def by_lightning(arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """As a user types it: the process starts the second one."""
    done = subprocess.run(
        [sys.executable, *arguments],
        **{"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "timeout": 240},
    )
    return done.returncode, done.stdout + done.stderr


def as_rank(number: int, arguments: list[str]) -> None:
    """One of two processes that another program starts, as torchrun does."""
    from pytorch_lightning.utilities import rank_zero_only

    rank_zero_only.rank = number  # type: ignore[attr-defined]  # as importing it in this environment sets it
    as_typed(arguments)


def side_by_side(arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Both from a process that has all imports behind it: no start pays for them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = environment | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    both = [Started(as_rank, i, arguments, environment=shared | {"LOCAL_RANK": str(i)}) for i in range(2)]
    (code, printed, said), (second, *also) = (process.finished() for process in both)
    assert second == 0 or code != 0, also
    return code, printed + said


@pytest.fixture
def together(images: Path, tmp_path: Path):
    """`together(*overrides)` trains in two processes: exit code, what they said, each one's hashes, and the run."""

    def call(*overrides: str, run=side_by_side, **variables: str) -> tuple[int, str, list[list[str]], Run]:
        notes = tmp_path / "notes"
        shutil.rmtree(notes, ignore_errors=True)
        notes.mkdir()
        arguments = ["tests/ranks.py", *small(images, tmp_path / "out", (*DDP, *overrides))[1:]]
        environment = {k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"}
        environment |= {"SEGLAB_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "NOTES": str(notes)}
        code, said = run(arguments, environment | variables)
        hashes = [p.read_text().splitlines() for p in sorted(notes.iterdir())]
        return code, said, hashes, max(runs_of(tmp_path / "out" / "default"), key=age)

    return call


def age(run: Run) -> float:
    return run.config_file.stat().st_mtime


FROZEN = ("model=unet_mobilenetv2", "model.freeze_encoder_epochs=2", "+optimizer.weight_decay=0.1")


def test_a_frozen_encoder_stays_and_then_trains_alike_in_all_processes(together) -> None:
    code, said, (first, second), run = together(*FROZEN, "epochs=4")
    assert code == 0, said
    assert first == second and len(set(first)) == 4
    encoders = [line.split()[0] for line in first]
    assert encoders[0] == encoders[1] and len(set(encoders[1:])) == 3
    assert [row["gradient/encoder"] > 0 for row in run.metrics()] == [False, False, True, True]


def test_an_encoder_freed_before_a_resume_trains_alike_in_all_processes(together) -> None:
    code, said, _, _ = together(*FROZEN, "epochs=3")
    assert code == 0, said
    code, said, (first, second), _ = together(*FROZEN, "epochs=4")
    assert code == 0 and "resumes from epoch 3" in said
    assert first == second and len(first) == 1


def of_scenes(images: Path, folder: Path, names: dict[str, str]) -> Path:
    """A copy of some of the images, each of a scene."""
    for sub in ("data", "label"):
        (folder / sub).mkdir(parents=True)
        for name in names:
            shutil.copy(images / sub / f"{name}.png", folder / sub)
    rows = "".join(f"{name},{scene}\n" for name, scene in names.items())
    (folder / "scenes.csv").write_text(f"name,scene\n{rows}")
    return folder


@pytest.fixture
def unequal(images: Path, tmp_path: Path) -> tuple[str, ...]:
    """Settings by which one process has two batches to validate and the other has one."""
    root = of_scenes(images, tmp_path / "set", {str(i): "val" if i < 3 else "train" for i in range(9)})
    return (f"data.root={root}", "data.val_scenes=[val]", "data.batch_size=1")


def test_processes_with_unequal_numbers_of_batches_end_together(together, unequal: tuple[str, ...]) -> None:
    code, said, hashes, run = together(*unequal, "epochs=2", "score_train=true")
    assert code == 0, said
    assert len(hashes) == 2 and hashes[0] == hashes[1] and run.results()["status"] == "done"
    found = run.records.validation()
    assert found is not None and found.names == ["0", "1", "2"]


@pytest.mark.parametrize("where", ["1:train:0", "1:val:0", "0:val:1"])
def test_a_loss_that_one_process_loses_ends_both(together, unequal: tuple[str, ...], where: str) -> None:
    """The second validation loss of the first process is one that the other has no counterpart to."""
    code, said, hashes, run = together(*unequal, "epochs=1", NAN=where)
    assert code == 1 and hashes == []
    reason = run.results()["reason"]
    assert run.results()["status"] == "diverged" and f"diverged: {reason}" in said
    stage = where.split(":")[1]
    assert reason.startswith(f"NotFinite: the {stage} loss is nan in epoch 1, step ") and "on the images " in reason
    assert not run.last_checkpoint.exists()


def test_one_task_of_slurm_starts_the_other_process(together, images: Path, tmp_path: Path) -> None:
    slurm = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "x", "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1"}
    ranks = {f"SLURM_{name}": "0" for name in ("PROCID", "LOCALID", "NODEID")}
    code, said, hashes, _ = together("epochs=1", run=by_lightning, **slurm, **ranks)
    assert code == 0, said
    assert len(hashes) == 2 and hashes[0] == hashes[1]


def test_more_processes_than_images_are_refused_in_one_line(together, images: Path, tmp_path: Path) -> None:
    root = of_scenes(images, tmp_path / "set", {str(i): "val" if i < 1 else "train" for i in range(5)})
    code, said, _, run = together(f"data.root={root}", "data.val_scenes=[val]", "epochs=1")
    assert code == 1 and run.results()["status"] == "failed"
    assert "failed: ValueError: fewer images to validate than the 2 devices that share them" in said


def test_the_watch_asks_other_processes_only_when_all_are_asked() -> None:
    watch = LossWatch()
    for value in (1.0, float("nan"), 2.0):
        watch.add(torch.tensor(value), "the loss is {}".format, processes=2)
    for value in (1.0, float("inf")):
        with pytest.raises(NotFinite) if value > 1 else nullcontext():
            LossWatch().add(torch.tensor(value), "the loss is {}".format)
    with pytest.raises(NotFinite, match="the loss is nan"):
        watch.look(None)  # type: ignore[arg-type]
