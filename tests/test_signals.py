"""Signals and kills: nothing finished is lost, and what goes on ends as if undisturbed."""

import itertools
import os
import shutil
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from seglab.config.compose import config_of
from seglab.config.schema import Config
from seglab.run import checkpoints
from seglab.run.checkpoint_writer import CheckpointWriter
from seglab.run.folder import runs_of
from seglab.sweep.job import job
from seglab.sweep.plan import finish, trainings
from tests.commands import start
from tests.conftest import command, run_train
from tests.test_conf import composed
from tests.test_resume import assert_same_study, cells


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_says_how_to_go_on(images: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = start(images, tmp_path, "epochs=400")
    process.wait_for("epoch 2/400")
    process.send_signal(number)
    code, _, said = process.finished()
    assert code == 1
    assert f"interrupted: Interrupted: {number.name}" in said
    assert "to resume: python train.py " in said and "epochs=400" in said
    (run,) = cells(tmp_path / "default").values()
    assert run.results()["status"] == "interrupted"
    assert checkpoints.read(run.last_checkpoint, run) is not None


def test_a_signal_ends_a_sweep_and_the_command_goes_on(images: Path, tmp_path: Path) -> None:
    process = start(images, tmp_path, "-m", "loss=dice,focal", "epochs=1,400")
    process.wait_for("epoch 2/400")
    process.send_signal(signal.SIGTERM)
    code, printed, said = process.finished()
    assert code == 1
    assert "3 of 4 cells have no score" in said
    assert "to resume: python train.py -m" in printed
    assert [run.results()["status"] for run in runs_of(tmp_path / "default")].count("done") == 1


def test_a_second_interrupt_ends_at_once(images: Path, tmp_path: Path) -> None:
    process = start(images, tmp_path, "epochs=400")
    process.wait_for("epoch 1/400")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert process.finished()[0] in (1, 130)  # 1 where the first was already served


NAMES = {"model": "unet", "loss": "dice", "data": "folder", "trainer": "auto"}
WRITES = ("link", "remove", "rename", "replace", "unlink")
"""Functions of `os` that change a name that is there. Each file that must be whole gets its name by one of them."""


def keep_each_moment(patch: pytest.MonkeyPatch, out: Path, moments: Path, counts: Callable[[], bool]) -> None:
    """Before each change of a name in `out` that counts, copies it as a kill would leave it, numbered in `moments`."""

    def before(change):
        def kept(path, *rest, **more):
            if counts() and out in Path(path).parents and os.path.lexists(path):
                shutil.copytree(out, moments / f"{len(list(moments.iterdir())):03}")
            return change(path, *rest, **more)

        return kept

    moments.mkdir()
    for name in WRITES:
        patch.setattr(os, name, before(getattr(os, name)))


def write_late(patch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Lets the thread begin a checkpoint when somebody waits for it. Moments count while the second is unwritten."""
    asked = threading.Event()
    unwritten: list[int] = []
    numbers = itertools.count(1)
    save, wait, write = CheckpointWriter.save, CheckpointWriter.wait, CheckpointWriter._write

    def saved(self, *what) -> None:
        save(self, *what)
        unwritten.append(next(numbers))

    def waited(self) -> None:
        if unwritten:
            asked.set()
        wait(self)

    def written(self, *content) -> None:
        assert asked.wait(60)
        asked.clear()
        write(self, *content)
        unwritten.clear()

    for name, change in {"save": saved, "wait": waited, "_write": written}.items():
        patch.setattr(CheckpointWriter, name, change)
    return lambda: unwritten == [2]


def write_at_once(patch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Lets the training wait for each checkpoint. Every moment counts."""
    save = CheckpointWriter.save

    def saved(self, *what) -> None:
        save(self, *what)
        self.wait()

    patch.setattr(CheckpointWriter, "save", saved)
    return lambda: True


def swept(jobs: Sequence[tuple[int, Config]]) -> None:
    """The sweep of these configs by their epochs: a command below its first half second, which reads no study."""
    rows = trainings([((), config) for _, config in jobs])
    for row in rows:
        if not row.done:
            epochs = [cell.epochs for cell in row.cells]
            job(dict(jobs)[epochs[-1]].but(marks=epochs))
    finish(rows)


@pytest.mark.parametrize(
    ("write", "lengths", "least", "kinds"), [(write_at_once, (1, 2), 30, 4), (write_late, (1, 3), 8, 2)]
)
def test_a_grid_killed_before_any_of_its_writes_ends_as_if_undisturbed(
    images: Path,
    tmp_path: Path,
    write: Callable[[pytest.MonkeyPatch], Callable[[], bool]],
    lengths: Sequence[int],
    least: int,
    kinds: int,
) -> None:
    """From the first lock to the last report: what is on disk is all that a killed process leaves.

    The thread that writes checkpoints writes nothing else, so what it and the training have written at any moment is
    between its writing at once and its writing when it is waited for.
    """
    grid = ("-m", "loss=dice", f"epochs={','.join(map(str, lengths))}", "model.depth=1")
    quiet = tmp_path / "quiet"
    with pytest.MonkeyPatch.context() as patch:
        keep_each_moment(patch, quiet, tmp_path / "killed", write(patch))
        assert run_train(images, quiet, grid) == ""
    moments = sorted((tmp_path / "killed").iterdir())
    assert len(moments) > least
    written = [len(list(killed.rglob("*.ckpt"))) for killed in moments]
    assert len(set(written)) >= kinds and (written[0] == 0 or write is write_late)  # they are moments of one training
    words = ("loss=dice", "model.depth=1", f"data.cache_dir={images.parent / 'cache'}")
    settings = command(images, tmp_path, words)[1:]
    config = config_of(composed(*settings) | {"names": NAMES})
    for i, killed in enumerate(moments):
        if i % 10:
            swept([(epochs, config.but(epochs=epochs, output_dir=str(killed))) for epochs in lengths])
        else:
            assert run_train(images, killed, grid) == ""
        assert_same_study(killed / "default", quiet / "default")
        assert (killed / "default" / "grid.csv").read_text() == (quiet / "default" / "grid.csv").read_text()


def test_a_grid_killed_twice_ends_as_if_undisturbed(images: Path, tmp_path: Path) -> None:
    """`kill -9`, the second in what goes on after the first."""
    grid = ["-m", "loss=dice,cross_entropy", "epochs=1,2,6"]
    for said in ("epoch 4/6", "resumes from epoch"):
        process = start(images, tmp_path / "killed", *grid)
        process.wait_for(said)
        process.send_signal(signal.SIGKILL)
        assert process.finished()[0] == -signal.SIGKILL
    assert run_train(images, tmp_path / "killed", tuple(grid)) == ""
    assert run_train(images, tmp_path / "quiet", tuple(grid)) == ""
    assert_same_study(tmp_path / "killed" / "default", tmp_path / "quiet" / "default")
    grids = [(tmp_path / out / "default" / "grid.csv").read_text() for out in ("quiet", "killed")]
    assert grids[0] == grids[1]
