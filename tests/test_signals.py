"""Signals and kills: nothing finished is lost, and what goes on ends as if undisturbed."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from seglab.run import checkpoints
from seglab.run.folder import runs_of
from tests.commands import start
from tests.conftest import run_train
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


WRITES = ("link", "remove", "rename", "replace", "unlink")
"""Functions of `os` that change a name that is there. Each file that must be whole gets its name by one of them."""


def keep_each_moment(patch: pytest.MonkeyPatch, out: Path, moments: Path) -> None:
    """Before each change of a name in `out`, copies it as a kill would leave it, into `moments` / its number."""

    def before(change):
        def kept(path, *rest, **more):
            if out in Path(path).parents and os.path.lexists(path):
                shutil.copytree(out, moments / f"{len(list(moments.iterdir())):03}")
            return change(path, *rest, **more)

        return kept

    moments.mkdir()
    for name in WRITES:
        patch.setattr(os, name, before(getattr(os, name)))


def test_a_grid_killed_before_any_of_its_writes_ends_as_if_undisturbed(images: Path, tmp_path: Path) -> None:
    """From the first lock to the last report: what is on disk is all that a killed process leaves."""
    grid = ("-m", "loss=dice", "epochs=1,2", "model.depth=1")
    quiet = tmp_path / "quiet"
    with pytest.MonkeyPatch.context() as patch:
        keep_each_moment(patch, quiet, tmp_path / "killed")
        assert run_train(images, quiet, grid) == ""
    moments = sorted((tmp_path / "killed").iterdir())
    assert len(moments) > 30
    written = [len(list(killed.rglob("*.ckpt"))) for killed in moments]
    assert written[0] == 0 and len(set(written)) > 3  # they are moments of one training
    for killed in moments:
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
