"""The same grid through every launcher: in one process, in several, and as Slurm jobs; and jobs that leave no trace."""

import os
import resource
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock

from seglab.data.module import EpochOrder
from seglab.machine.processes import gpu_of_its_own
from seglab.run.folder import Run, runs_of
from seglab.sweep.plan import threads_each
from tests.commands import Started, as_typed, start
from tests.conftest import GRID, command
from tests.needs import absent
from tests.test_resume import assert_same_cell, assert_same_study, cells, content
from tests.test_train import assert_score_is_that_of_the_maps

JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "threads=1"]
LOCAL = ["hydra/launcher=submitit_local", "threads=1"]
SLURM = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=main", "hydra.launcher.cpus_per_task=1"]


def wait_until(true: Callable[[], bool], process: Started) -> None:
    """Looks at what other processes write, as long as the one that started them runs."""
    while not true():
        assert process.runs(), process.finished()
        signal.sigtimedwait([], 0.05)


def patient_for_a_second(arguments: list[str]) -> None:
    """For what a dead process does not leave, submitit waits 15 s."""
    from submitit.core.core import Job

    Job._results_timeout_s = 1
    as_typed(arguments)


def both(second: list[str], first: list[str]) -> None:
    """Two commands in one process, so that joblib has the processes of the first for the second, too."""
    as_typed(first)
    as_typed(second)


def assert_all_saved(study: Path) -> None:
    states = [r.results()["status"] for r in runs_of(study)]
    assert "interrupted" in states and "running" not in states and "failed" not in states


def test_joblib_trains_the_same_grid_and_saves_when_asked_to_stop(images: Path, tmp_path: Path, alone: Path) -> None:
    stopped = tmp_path / "stopped"
    long = command(images, stopped, ("-m", "loss=dice,cross_entropy", "epochs=1,400", *JOBLIB))
    process = start(images, tmp_path / "whole", *GRID, *JOBLIB, function=partial(both, long))
    process.wait_for("6 cells in 2 trainings: 8 epochs to train")
    process.wait_for("| dice")
    for _ in range(2):
        process.wait_for("epoch 2/400")  # of two processes
    process.send_signal(signal.SIGTERM)
    code, printed, _ = process.finished()
    assert code == 1 and "stopped by SIGTERM; to resume: python train.py -m" in printed
    assert_all_saved(stopped / "default")
    assert_same_study(tmp_path / "whole" / "default", alone)


def test_local_processes_train_the_same_grid_and_one_killed_loses_only_what_it_trained(
    images: Path, tmp_path: Path, alone: Path
) -> None:
    code, printed, said = start(images, tmp_path, *GRID, *LOCAL).finished()
    assert code == 0, said
    assert "6 cells in 2 trainings: 8 epochs to train" in printed and "| dice" in printed
    assert_same_study(tmp_path / "default", alone)
    before = cells(tmp_path / "default")
    process = start(images, tmp_path, "-m", "loss=lovasz", "epochs=1,400", *LOCAL, function=patient_for_a_second)

    def killed() -> Run | None:
        new = (run for name, run in cells(tmp_path / "default").items() if name not in before)
        return next((r for r in new if r.results()["status"] == "running" and len(r.metrics()) > 2), None)

    wait_until(killed, process)
    os.kill(int((killed().folder / ".holder").read_text().split()[1]), signal.SIGKILL)
    code, printed, _ = process.finished()
    assert code == 1
    assert "| dice" in printed and "it was killed" in printed
    after = cells(tmp_path / "default")
    for name, run in cells(alone).items():
        assert_same_cell(after[name], run)
    states = {run.results()["epochs"] for name, run in after.items() if name not in before and run.done}
    assert states == {1}


def test_asked_to_stop_local_processes_save(images: Path, tmp_path: Path) -> None:
    long = ("-m", "loss=dice,cross_entropy", "epochs=1,400", *LOCAL)
    process = start(images, tmp_path, *long, function=patient_for_a_second)
    wait_until(lambda: len([r for r in runs_of(tmp_path / "default") if r.metrics()]) >= 2, process)
    process.send_signal(signal.SIGTERM)
    code, printed, _ = process.finished()
    assert code == 1 and "stopped by SIGTERM; to resume: python train.py -m" in printed
    assert_all_saved(tmp_path / "default")


def test_several_devices_train_one_cell_also_within_a_sweep(images: Path, tmp_path: Path) -> None:
    """Two processes, then one, then two again: each a process of its own that nothing leaks into."""
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2,1", "data.batch_size=2", "threads=1"]
    out = tmp_path / "out" / "default"
    code, printed, said = start(images, out.parent, "-m", *ddp, "epochs=1,2").finished()
    assert code == 0, printed + said
    assert "4 cells in 2 trainings: 4 epochs to train" in printed
    for run in runs_of(out):
        assert run.results()["status"] == "done"
        assert [row["epoch"] for row in run.metrics()] == [*range(1, run.config()["epochs"] + 1)]
        assert_score_is_that_of_the_maps(run, images)
    steps = {
        run.config()["trainer"]["devices"]: content(run, run.last_checkpoint)["global_step"] for run in runs_of(out)
    }
    assert steps[1] == 2 * steps[2]  # each image once an epoch, half of them on each device


def test_each_process_takes_its_share_of_an_epoch() -> None:
    for length, world in ((10, 2), (7, 3), (2, 4)):
        shares = [[i for i, _ in EpochOrder(length, 0, (3, 0), rank, world)] for rank in range(world)]
        assert (
            {len(share) for share in shares} == {-(-length // world)} == {len(EpochOrder(length, 0, (3, 0), 0, world))}
        )
        assert {i for share in shares for i in share} == set(range(length))
        rest = [i for i, _ in EpochOrder(length, 0, (3, 1), 0, world)]
        assert rest == shares[0][1:]


def test_every_training_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=f"GPU-{i}"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    trainer = {"accelerator": "auto", "devices": 1}
    with gpu_of_its_own(trainer) as first, gpu_of_its_own(trainer) as second, gpu_of_its_own(trainer) as third:
        assert (first["devices"], second["devices"]) == ([0], [1])
        assert third["devices"] in ([0], [1])
    with gpu_of_its_own(trainer) as again:
        assert again["devices"] == [0]
    for asked in ({"accelerator": "cpu", "devices": 1}, {"accelerator": "auto", "devices": 2}):
        with gpu_of_its_own(asked) as same:
            assert same == asked


def test_threads_are_divided_among_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    joblib = {"_target_": "JoblibLauncher", "n_jobs": 2}
    assert [threads_each(joblib, rows) for rows in (1, 2, 9)] == [8, 4, 4]
    assert threads_each(joblib | {"n_jobs": -1}, 20) == 1
    assert threads_each({"_target_": "x.LocalLauncher"}, 3) == 2
    assert threads_each({"_target_": "x.SlurmLauncher", "cpus_per_task": 5}, 3) == 5
    assert threads_each({"_target_": "x.BasicLauncher"}, 3) is None


def test_a_cell_does_not_depend_on_what_ran_before(train, tmp_path: Path) -> None:
    """Flags, random states and threads of one job do not reach the next."""
    before = torch.get_float32_matmul_precision(), torch.get_num_threads(), torch.initial_seed()
    assert train("epochs=1", f"output_dir={tmp_path}/first", "loss=dice")[0] == ""
    noisy = ["+trainer.deterministic=true", "threads=1", "seed=5"]
    assert train("epochs=1", f"output_dir={tmp_path}/noisy", *noisy)[0] == ""
    assert not torch.are_deterministic_algorithms_enabled()
    assert (torch.get_float32_matmul_precision(), torch.get_num_threads(), torch.initial_seed()) == before
    assert train("epochs=1", f"output_dir={tmp_path}/second", "loss=dice")[0] == ""
    assert_same_study(tmp_path / "first" / "default", tmp_path / "second" / "default")


def test_many_jobs_in_a_process_do_not_make_it_grow(train) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    if not Path("/proc/self/statm").exists():
        absent("this system does not tell how much memory a process holds")

    def jobs(seeds: range) -> None:  # in studies of their own: each ends with a report on all cells of its study
        assert train("-m", "epochs=1", f"seed={','.join(map(str, seeds))}", "study=s${seed}")[0] == ""

    jobs(range(6))
    before = resident()
    jobs(range(6, 18))
    assert resident() - before < 18e6, "twelve more jobs kept more than 18 MB"


@pytest.fixture
def slurm(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A Slurm of one node on this machine, for one test at a time: its ports are fixed."""
    needed = ("slurmctld", "slurmd", "sbatch", "munged")
    if not all(shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in needed):
        absent("no Slurm here: as root, apt-get install -y --no-install-recommends slurm-wlm munge")
    if os.geteuid() != 0:
        absent("the test's Slurm of one node must be started as root")
    folder, script = tmp_path / "slurm", shared / "cluster" / "mini_slurm.sh"
    with FileLock(Path(tempfile.gettempdir()) / "seglab-tests-slurm.lock"):
        subprocess.run(["bash", script, "start", folder], check=True, capture_output=True)
        monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        yield folder
        subprocess.run(["bash", script, "stop", folder], check=True, capture_output=True)


def ask_slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_grid_of_slurm_jobs_is_the_same_and_a_preempted_one_goes_on_exactly(
    slurm: Path, images: Path, tmp_path: Path, alone: Path, trained
) -> None:
    launcher = (*SLURM, "hydra.launcher.timeout_min=5")
    code, _, said = start(images, tmp_path / "grid", *GRID, *launcher).finished()
    assert code == 0, said
    assert_same_study(tmp_path / "grid" / "default", alone)
    grids = [(study / "grid.csv").read_text() for study in (tmp_path / "grid" / "default", alone)]
    assert grids[0] == grids[1]

    long = ("-m", "loss=dice", "epochs=40")
    process, study = start(images, tmp_path / "preempted", *long, *launcher), tmp_path / "preempted" / "default"
    wait_until(lambda: any(len(r.metrics()) > 2 for r in runs_of(study)), process)
    job = ask_slurm("squeue", "--noheader", "--format=%i").strip()
    urgent = ["sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null"]
    ask_slurm(*urgent, f"--wrap=touch {shlex.quote(str(tmp_path / 'taken'))}")
    wait_until((tmp_path / "taken").exists, process)
    ask_slurm("scontrol", "update", f"JobId={job}", "StartTime=now")  # else a requeued job waits a while
    code, _, said = process.finished()
    assert code == 0, said
    (run,) = cells(study).values()
    assert "resumes from epoch" in run.log_file.read_text()
    assert_same_study(study, trained(*long, "threads=1"))


def test_a_missing_launcher_names_the_extra(train, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "hydra_plugins.hydra_joblib_launcher.joblib_launcher", None)
    message, _ = train("-m", "epochs=1", "hydra/launcher=joblib")
    assert message == "train.py: this launcher is an extra: pip install -e '.[cluster]'"
