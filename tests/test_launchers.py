"""The same grid through every launcher: in one process, in several, and as Slurm jobs; and jobs that leave no trace."""

import os
import resource
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock

from seglab.data.module import EpochOrder
from seglab.machine.processes import gpu_of_its_own
from seglab.run.folder import runs_of
from seglab.sweep.plan import threads_each
from tests.test_resume import GRID, assert_same_study, cells, content
from tests.test_signals import start
from tests.test_train import assert_score_is_that_of_the_maps

JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "threads=1"]
LOCAL = ["hydra/launcher=submitit_local", "threads=1"]
SLURM = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=main", "hydra.launcher.cpus_per_task=1"]


def finished(process: subprocess.Popen[str], seconds: float = 240) -> tuple[int, str, str]:
    out, said = process.communicate(timeout=seconds)
    return process.returncode, out, said


@pytest.fixture
def alone(train, tmp_path: Path) -> Path:
    """The grid with every cell trained by itself in this process."""
    assert train(*GRID, f"output_dir={tmp_path}/alone", "share=false", "threads=1")[0] == ""
    return tmp_path / "alone" / "default"


@pytest.mark.parametrize("launcher", [JOBLIB, LOCAL], ids=["joblib", "submitit_local"])
def test_a_grid_in_several_processes_is_the_same(
    images: Path, tmp_path: Path, alone: Path, launcher: list[str]
) -> None:
    process = start(images, tmp_path / "cache", tmp_path / "out", *GRID, *launcher)
    code, out, said = finished(process)
    assert code == 0, said
    assert "6 cells in 2 trainings: 8 epochs to train" in out and "| dice" in out
    assert_same_study(tmp_path / "out" / "default", alone)


@pytest.mark.parametrize("launcher", [JOBLIB, LOCAL], ids=["joblib", "submitit_local"])
def test_asked_to_stop_all_processes_save_and_go_on(images: Path, tmp_path: Path, launcher: list[str]) -> None:
    grid = ["-m", "loss=dice,cross_entropy", "epochs=1,400"]
    out = tmp_path / "out"
    process = start(images, tmp_path / "cache", out, *grid, *launcher)
    while not len([r for r in runs_of(out / "default") if r.metrics()]) >= 2:
        assert process.poll() is None
        signal.sigtimedwait([], 0.2)
    process.send_signal(signal.SIGTERM)
    code, printed, _ = finished(process)
    assert code == 1 and "stopped by SIGTERM; this goes on: python train.py -m" in printed
    states = [r.results()["status"] for r in runs_of(out / "default")]
    assert "interrupted" in states and "running" not in states and "failed" not in states


def test_a_killed_worker_loses_only_what_it_trained(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(images, tmp_path / "cache", out, "-m", "loss=dice,cross_entropy", "epochs=1,400", *LOCAL)
    while not any(r.results()["status"] == "running" and len(r.metrics()) > 2 for r in runs_of(out / "default")):
        assert process.poll() is None
        signal.sigtimedwait([], 0.2)
    for run in runs_of(out / "default"):
        holder = run.folder / ".holder"
        if holder.exists() and run.results()["status"] == "running":
            os.kill(int(holder.read_text().split()[1]), signal.SIGKILL)
    code, printed, _ = finished(process)
    assert code == 1
    assert "| dice" in printed and "it was killed" in printed


def test_several_devices_train_one_cell_also_within_a_sweep(images: Path, tmp_path: Path) -> None:
    """Two processes, then one, then two again: each a process of its own that nothing leaks into."""
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2,1", "data.batch_size=2", "threads=1"]
    out = tmp_path / "out" / "default"
    process = start(images, tmp_path / "cache", out.parent, "-m", *ddp, "epochs=1,2")
    code, printed, said = finished(process)
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


def test_thirty_jobs_in_a_process_do_not_make_it_grow(train) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not tell how much memory a process holds")

    seeds = ",".join(map(str, range(10)))
    assert train("-m", "epochs=1", f"seed={seeds}")[0] == ""
    before = resident()
    assert train("-m", "epochs=1", f"seed={','.join(map(str, range(10, 30)))}")[0] == ""
    assert resident() - before < 30e6, "twenty more jobs kept more than 30 MB"


@pytest.fixture
def slurm(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A Slurm of one node on this machine, for one test at a time: its ports are fixed."""
    needed = ("slurmctld", "slurmd", "sbatch", "munged")
    if not all(shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in needed):
        pytest.skip("no Slurm here: as root, apt-get install -y --no-install-recommends slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("the test's Slurm of one node must be started as root")
    folder, script = tmp_path / "slurm", shared / "cluster" / "mini_slurm.sh"
    with FileLock(Path(tempfile.gettempdir()) / "seglab-tests-slurm.lock"):
        subprocess.run(["bash", script, "start", folder], check=True, capture_output=True)
        monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        yield folder
        subprocess.run(["bash", script, "stop", folder], check=True, capture_output=True)


def test_a_grid_of_slurm_jobs_is_the_same(slurm: Path, images: Path, tmp_path: Path, alone: Path) -> None:
    process = start(images, tmp_path / "cache", tmp_path / "out", *GRID, *SLURM, "hydra.launcher.timeout_min=5")
    code, _, said = finished(process)
    assert code == 0, said
    assert_same_study(tmp_path / "out" / "default", alone)
    grids = [(study / "grid.csv").read_text() for study in (tmp_path / "out" / "default", alone)]
    assert grids[0] == grids[1]


def test_a_preempted_slurm_job_is_requeued_and_goes_on_exactly(
    slurm: Path, images: Path, tmp_path: Path, train
) -> None:
    long = ["-m", "loss=dice", "epochs=40"]
    process = start(images, tmp_path / "cache", tmp_path / "out", *long, *SLURM, "hydra.launcher.timeout_min=5")
    study = tmp_path / "out" / "default"
    while not any(len(r.metrics()) > 2 for r in runs_of(study)):
        assert process.poll() is None
        signal.sigtimedwait([], 0.2)
    urgent = ["sbatch", "--parsable", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 3"]
    subprocess.run(urgent, check=True, capture_output=True, cwd=tmp_path)
    code, _, said = finished(process)
    assert code == 0, said
    (run,) = cells(study).values()
    assert "goes on after" in run.log_file.read_text()
    assert train(*long, f"output_dir={tmp_path}/once", "threads=1")[0] == ""
    assert_same_study(study, tmp_path / "once" / "default")


def test_a_missing_launcher_names_the_extra(train, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "hydra_plugins.hydra_joblib_launcher.joblib_launcher", None)
    message, _ = train("-m", "epochs=1", "hydra/launcher=joblib")
    assert message == "train.py: this launcher is an extra: pip install -e '.[cluster]'"
