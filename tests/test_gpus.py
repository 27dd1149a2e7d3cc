"""GPUs that this machine need not have: which one a training takes, is named by, and keeps its numbers on."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from seglab.config.compose import config_of
from seglab.config.parts import build_data, build_task
from seglab.data.batches.loaders import PIXELS_AT_ONCE, scored_at_once
from seglab.machine.environment import computing_device, gpus_are_alike, warn_of_unseen_gpus
from seglab.machine.isolation import isolated
from seglab.machine.precision import resolved_precision
from seglab.machine.processes import (
    first_gpu,
    gpu_of_its_own,
    remember_visible_gpus,
    see_remembered_gpus,
    without_slurm_tasks,
)
from seglab.run import checkpoints
from seglab.run.folder import runs_of
from seglab.sweep.plan import trainings
from seglab.training import fit as fitting
from seglab.training.gauges import Gauges
from tests.test_conf import composed
from tests.test_signals import start

SMALL = ("model=unet", "model.min_kernel_num=4", "model.depth=2")
META = torch.device("meta")
ONE = {"accelerator": "auto", "devices": 1}


@pytest.fixture
def fake_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """`fake_gpus("a", "b")`: torch sees these two GPUs, in this order; old ones are of capability 7.5."""

    def see(*names: str) -> None:
        models = [SimpleNamespace(uuid=f"GPU-{name}", name=name.split()[0]) for name in names]
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(models))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(models))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: models[i])
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: models[i].name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: (7, 5) if models[i].name == "T4" else (8, 0))

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return see


def test_trainings_that_see_other_gpus_never_take_the_same(fake_gpus: Callable[..., None]) -> None:
    """The lock is of the GPU, not of its number: with CUDA_VISIBLE_DEVICES=1,0 another one is the first."""
    fake_gpus("A100 x", "A100 y")
    with gpu_of_its_own(ONE) as first:
        assert first["devices"] == [0]
        fake_gpus("A100 y", "A100 x")
        with gpu_of_its_own(ONE) as second:
            assert second["devices"] == [0]
        fake_gpus("A100 x", "A100 z")
        with gpu_of_its_own(ONE) as third:
            assert third["devices"] == [1] and first_gpu(third) == 1


def test_the_gpu_that_trains_is_named(fake_gpus: Callable[..., None]) -> None:
    fake_gpus("A100 x", "T4 y")
    assert [computing_device("auto", None, i) for i in (0, 1)] == ["A100", "T4"]
    assert [resolved_precision("auto", "gpu", i) for i in (0, 1)] == ["bf16-mixed", "16-mixed"]
    assert not gpus_are_alike()
    assert first_gpu({"accelerator": "cpu", "devices": 1}) is None
    assert first_gpu({"accelerator": "auto", "devices": 2, "strategy": "ddp"}) == 0
    fake_gpus("A100 x", "A100 y")
    assert gpus_are_alike()
    fake_gpus()
    assert gpus_are_alike() and first_gpu(ONE) is None


def test_a_row_is_of_the_gpu_that_it_takes(train, fake_gpus: Callable[..., None], monkeypatch) -> None:
    """Taken before the identity is computed, and handed to the Trainer."""
    from seglab.training import row

    class Told(ValueError):
        pass

    def tell(cell: Any, others: Any, data: Any, arguments: Any, *_: Any) -> None:
        raise Told(f"{cell.identity.device} {cell.identity.precision} {arguments['devices']} {cell.config.trainer}")

    monkeypatch.setattr(row, "_fit", tell)
    monkeypatch.setattr(row, "isolated", lambda *_: isolated(1))
    fake_gpus("A100 x", "T4 y")
    with gpu_of_its_own(ONE):
        message, _ = train("epochs=1", "precision=auto")
    assert message.startswith("failed: Told: T4 16-mixed [1] ") and "'devices': 1" in message


def test_where_gpus_differ_the_job_decides(images: Path, tmp_path: Path, fake_gpus, monkeypatch) -> None:
    monkeypatch.setenv("SEGLAB_CACHE", str(images.parent / "cache"))
    overrides = ("data=folder", f"data.root={images}", f"output_dir={tmp_path}", "epochs=1")
    for names, device in {("A100 x", "T4 y"): None, ("T4 x", "T4 y"): "T4"}.items():
        fake_gpus(*names)
        (row,) = trainings([((), config_of(composed(*SMALL, *overrides)))])
        assert row.cells[0].identity.device == device
        (row,) = trainings([((), config_of(composed(*SMALL, *overrides, "trainer=cpu")))])
        assert str(row.cells[0].identity.device).startswith("cpu, ")


def test_random_states_of_other_gpus_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    original = torch.random.fork_rng

    def fork(devices: list[int]) -> Any:
        asked.append(devices)
        return original(devices=[])

    monkeypatch.setattr(torch.random, "fork_rng", fork)
    for gpu in (None, 3):
        with isolated(torch.get_num_threads(), gpu):
            pass
    assert asked == [[], [3]]


def test_the_sums_of_a_resumed_epoch_lie_where_it_trains() -> None:
    """Lightning loads a checkpoint before it moves the module; a loss of CUDA can't be added to a sum on the CPU."""
    task = build_task(config_of(composed(*SMALL)))
    gauges = Gauges()
    progress = SimpleNamespace(current=SimpleNamespace(processed=0))
    for first, loss, images in ((False, 0.0, 0), (True, 3.0, 2)):
        trainer: Any = SimpleNamespace(
            is_global_zero=first,
            strategy=None,
            fit_loop=SimpleNamespace(epoch_progress=progress),
            gradient_clip_val=None,
        )
        task._trainer = trainer
        task.on_load_checkpoint({"tally": {"loss": torch.tensor(3.0), "images": 2}})
        task.on_train_start()
        assert float(task.tallies["train"].loss) == loss and task.tallies["train"].images == images
    task.on_load_checkpoint({"tally": {"loss": torch.tensor(3.0), "images": 2}})
    gauges.load_state_dict({"sums": {"head": torch.ones(2, dtype=torch.double)}})
    with FakeTensorMode(allow_non_fake_inputs=True):
        task._device = torch.device("cuda:0")
        with pytest.raises(RuntimeError, match="device"):
            torch.zeros(()).add_(torch.ones((), device="cuda:0"))
        task.on_train_start()
        gauges.on_train_start(trainer, task)
        tally = task.tallies["train"]
        tally.loss += torch.ones((), device="cuda:0")
        gauges._sums["head"] = gauges._sums["head"] + torch.ones(2, dtype=torch.double, device="cuda:0")
        assert tally.loss.device.type == tally.counts.device.type == "cuda"


def test_a_finished_cell_is_scored_on_the_trainers_device(train, tmp_path: Path, monkeypatch) -> None:
    """Also where a kill left it without records: else its maps would differ from its score."""
    from seglab.training.keeper import Keeper

    assert train("epochs=1")[0] == ""
    (run,) = runs_of(tmp_path / "default")
    run.results_file.unlink()
    used: list[tuple[torch.device, torch.device]] = []

    def score(self: Keeper, records: Any, net: Any, device: torch.device) -> None:
        used.append((device, next(net.parameters()).device))
        raise RuntimeError("seen")

    original = fitting.build_trainer

    def elsewhere(*arguments: Any) -> Any:
        trainer = original(*arguments)
        monkeypatch.setattr(type(trainer.strategy), "root_device", META)
        return trainer

    monkeypatch.setattr(Keeper, "score", score)
    monkeypatch.setattr(fitting, "build_trainer", elsewhere)
    assert "seen" in train("epochs=1")[0]
    assert used == [(META, META)]
    assert checkpoints.read(run.last_checkpoint, run) is not None


def test_memory_is_pinned_for_a_gpu_alone_and_workers_use_its_cores(images: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (0, 80 * 2**30))
    monkeypatch.setattr(fitting, "usable_cores", lambda: 12)
    monkeypatch.setattr(torch._utils, "cpu_count", lambda: 12)  # else torch warns of so many workers
    monkeypatch.setenv("SEGLAB_CACHE", str(images.parent / "cache"))
    config = config_of(composed(*SMALL, "data=folder", f"data.root={images}", "trainer=cpu", "precision=32"))
    for device, gpus, threads, workers in (
        ("cpu", 1, 12, 0),
        ("cuda:0", 1, None, 11),
        ("cuda:0", 3, 12, 3),
        ("cuda:0", 1, 2, 1),
    ):
        data = build_data(config)
        trainer: Any = SimpleNamespace(
            strategy=SimpleNamespace(root_device=torch.device(device)), num_devices=gpus, fit=lambda *_, **__: None
        )
        fitting.fit(trainer, config.but(threads=threads), data, None)
        for loader in data.train_dataloader(), *data.val_dataloader():
            assert loader.pin_memory == (device != "cpu") and loader.num_workers == workers
            assert not workers or loader.prefetch_factor * workers >= 2, "batches ahead"


def test_what_is_scored_at_once_is_a_function_of_sizes() -> None:
    assert [scored_at_once({(n, n)}, 8) for n in (96, 224, 512, 1024)] == [8, 8, 8, 8]
    assert scored_at_once({(1024, 1024)}, 16) == 16 and scored_at_once({(2000, 2000)}, 8) == 4
    assert scored_at_once({(6000, 6000)}, 8) == 1 and scored_at_once({(9000, 3000)}, 1) == 1
    assert scored_at_once({(96, 96), (96, 97)}, 8) == 1
    for size in range(100, 4100, 100):
        images = scored_at_once({(size, 2 * size)}, 10**6)
        assert images == 1 or images * 2 * size**2 <= PIXELS_AT_ONCE


def test_a_job_of_submitit_local_sees_what_the_sweep_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGLAB_VISIBLE_GPUS", raising=False)
    for mine in (None, "", "2,3", "GPU-8f"):
        for hidden in ("", "0"):
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
            if mine is not None:
                monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mine)
            remember_visible_gpus()
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
            for executor, sees in (("slurm", hidden), ("local", mine)):
                monkeypatch.setenv("SUBMITIT_EXECUTOR", executor)
                see_remembered_gpus()
                assert os.environ.get("CUDA_VISIBLE_DEVICES") == sees


def test_one_task_of_slurm_may_start_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE")
    for tasks, kept in (("1", False), ("2", True)):
        for name in names:
            monkeypatch.setenv(name, tasks)
        with without_slurm_tasks():
            assert [name in os.environ for name in names] == [kept, kept]
        assert [os.environ[name] for name in names] == [tasks, tasks]


@pytest.fixture
def nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program of this name that lists a GPU."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\ntest $1 = -L && echo 'GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5f2c)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    warn_of_unseen_gpus.cache_clear()


SEEN = "torch sees no GPU although nvidia-smi does: NVIDIA A100-SXM4-40GB; "


def test_a_gpu_that_torch_does_not_see_is_named_once(nvidia_smi: None, monkeypatch, caplog) -> None:
    monkeypatch.setattr(torch.version, "cuda", "99.1")
    for accelerator in ("cpu", "auto", "auto"):
        warn_of_unseen_gpus(accelerator)
    (said,) = caplog.messages
    assert said == f"{SEEN}torch {torch.__version__} is built for CUDA 99.1, which may need a newer driver"
    caplog.clear()
    warn_of_unseen_gpus.cache_clear()
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    warn_of_unseen_gpus("gpu")
    assert caplog.messages == [f"{SEEN}torch {torch.__version__} is built without CUDA; CUDA_VISIBLE_DEVICES is ''"]


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\necho 'No devices were found'\n", None])
def test_a_machine_without_gpus_is_not_warned(nvidia_smi: None, tmp_path: Path, monkeypatch, caplog, script) -> None:
    program = tmp_path / "bin" / "nvidia-smi"
    program.write_text(script or "")
    if script is None:
        program.unlink()
        monkeypatch.setenv("PATH", str(program.parent))
    warn_of_unseen_gpus("auto")
    assert not caplog.messages


def test_submitit_local_hides_no_gpu(nvidia_smi: None, images: Path, tmp_path: Path, monkeypatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    process = start(images, tmp_path / "out", "-m", "epochs=1", "hydra/launcher=submitit_local")
    code, _, said = process.finished()
    assert code == 0, said
    logs = [p.read_text() for p in (tmp_path / "out" / "default" / ".submitit").rglob("*_log.out")]
    assert any(SEEN in log and "CUDA_VISIBLE_DEVICES is '5'" in log for log in logs)
