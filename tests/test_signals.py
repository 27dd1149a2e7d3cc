"""Signals and kills: nothing finished is lost, and what goes on ends as if undisturbed."""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seglab.run import checkpoints
from seglab.run.folder import runs_of
from tests.conftest import ROOT, SMALL
from tests.test_resume import assert_same_study, cells


def start(images: Path, cache: Path, out: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "train.py", *[o for o in overrides if o.startswith("-")], *SMALL, f"data.root={images}"]
    command += [f"output_dir={out}", *[o for o in overrides if not o.startswith("-")]]
    environment = {k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"}
    environment |= {"SEGLAB_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"{text!r} never came: {process.stderr.read() if process.stderr else ''}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_says_how_to_go_on(images: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = start(images, tmp_path / "cache", tmp_path / "out", "epochs=400")
    wait_for(process, "epoch 2/400")
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"interrupted: Interrupted: {number.name}" in said
    assert "this goes on: python train.py " in said and "epochs=400" in said
    (run,) = cells(tmp_path / "out" / "default").values()
    assert run.results()["status"] == "interrupted"
    assert checkpoints.read(run.last_checkpoint, run) is not None


def test_a_signal_ends_a_sweep_and_the_command_goes_on(images: Path, tmp_path: Path) -> None:
    process = start(images, tmp_path / "cache", tmp_path / "out", "-m", "loss=dice,focal", "epochs=1,400")
    wait_for(process, "epoch 2/400")
    process.send_signal(signal.SIGTERM)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "3 of 4 cells have no score" in said
    assert "this goes on: python train.py -m" in out
    assert [run.results()["status"] for run in runs_of(tmp_path / "out" / "default")].count("done") == 1


def test_a_second_interrupt_ends_at_once(images: Path, tmp_path: Path) -> None:
    process = start(images, tmp_path / "cache", tmp_path / "out", "epochs=400")
    wait_for(process, "epoch 1/400")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (1, 130)  # 1 where the first was already served


def train_grid(images: Path, cache: Path, out: Path) -> None:
    """The command of `start`, in a process that has all imports behind it."""
    import train as script

    os.environ["SEGLAB_CACHE"] = str(cache)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # the process ends with it
    sys.argv = ["train.py", "-m", *SMALL, f"data.root={images}", f"output_dir={out}", "threads=1"]
    sys.argv += ["loss=dice,cross_entropy", "epochs=1,2,3"]
    script.run()


def test_a_grid_killed_at_random_moments_ends_as_if_undisturbed(images: Path, tmp_path: Path) -> None:
    """`kill -9` twenty times, at moments from the first config to the last picture."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["train", "seglab.sweep.plan", "tests.test_signals"])

    def run(out: str, seconds: float | None = None) -> int | None:
        process = context.Process(target=train_grid, args=(images, tmp_path / "cache", tmp_path / out))
        process.start()
        process.join(seconds)
        if process.is_alive():
            process.kill()
            process.join()
        return process.exitcode

    run("warm-up")
    begun = time.monotonic()
    assert run("quiet") == 0
    lasted = time.monotonic() - begun
    moments, kills = random.Random(0), 0
    while kills < 20:
        if run("killed", lasted * moments.uniform(0.1, 0.9)) == 0:  # it came to its end: begin anew
            assert_same_study(tmp_path / "killed" / "default", tmp_path / "quiet" / "default")
            shutil.rmtree(tmp_path / "killed")
        else:
            kills += 1
    assert run("killed") == 0
    assert_same_study(tmp_path / "killed" / "default", tmp_path / "quiet" / "default")
    grids = [(tmp_path / out / "default" / "grid.csv").read_text() for out in ("quiet", "killed")]
    assert grids[0] == grids[1]
