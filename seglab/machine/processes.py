"""Processes of trainings: a fresh one where several must train together, and a GPU for each."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from seglab.machine.signals import stopping_softly

LEAKS = ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables that a training over several devices leaves behind and that mislead the next training."""

SLURM_TASKS = ("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE")
"""Environment variables by which Slurm tells how many processes it started."""

VISIBLE = "SEGLAB_VISIBLE_GPUS"
EVERY = "every"
"""Environment variable that tells jobs which GPUs the sweep sees, as CUDA_VISIBLE_DEVICES does; its value for all."""

TRAIN = Path(__file__).parent.parent.parent / "train.py"


def in_a_fresh_process(overrides: Sequence[str]) -> None:
    """Runs train.py with these overrides as one job.

    Within a multirun, Lightning's DDP would start the whole sweep again in every process (Lightning#11300).
    """
    environment = {k: v for k, v in os.environ.items() if k not in (*LEAKS, "HYDRA_FULL_ERROR")}
    with stopping_softly(pass_on=True):
        subprocess.run([sys.executable, str(TRAIN), *overrides, "hydra.mode=RUN"], env=environment, check=False)


def remember_visible_gpus() -> None:
    """Notes for the processes to come which GPUs this one may see: submitit_local hides all or all but the first."""
    os.environ[VISIBLE] = os.environ.get("CUDA_VISIBLE_DEVICES", EVERY)


def see_remembered_gpus() -> None:
    """Lets a job of submitit_local see the GPUs that the sweep saw. To be called before torch looks for any."""
    if os.environ.get("SUBMITIT_EXECUTOR") != "local" or VISIBLE not in os.environ:
        return
    if os.environ[VISIBLE] == EVERY:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ[VISIBLE]


@contextmanager
def without_slurm_tasks() -> Iterator[None]:
    """Context in which a job of one Slurm task may start processes of its own: Lightning expects one task for each."""
    kept = {name: os.environ[name] for name in SLURM_TASKS if name in os.environ}
    if kept.get("SLURM_NTASKS") != "1":
        yield
        return
    for name in kept:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(kept)


@contextmanager
def gpu_of_its_own(trainer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Arguments of the Trainer; if there are several GPUs, with one that no other training of ours uses.

    If all are taken, trainings share them. The process id chooses the GPU, so that trainings spread.
    """
    count = 0 if trainer["accelerator"] == "cpu" else torch.cuda.device_count()
    if count < 2 or trainer.get("devices") != 1:
        yield dict(trainer)
        return
    # by its own name: a process that sees other GPUs counts them in another way
    names = [str(getattr(torch.cuda.get_device_properties(i), "uuid", i)) for i in range(count)]
    locks = [FileLock(Path(tempfile.gettempdir()) / f"seglab-gpu-{os.getuid()}-{name}.lock") for name in names]
    free = next((i for i, lock in enumerate(locks) if _taken(lock)), None)
    try:
        yield {**trainer, "devices": [os.getpid() % count if free is None else free]}
    finally:
        if free is not None:
            locks[free].release()


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def first_gpu(trainer: Mapping[str, Any]) -> int | None:
    """Number of the GPU, or of the first of several, that a Trainer of these arguments uses; None of a CPU."""
    if trainer.get("accelerator") == "cpu" or not torch.cuda.is_available():
        return None
    devices = trainer.get("devices")
    return devices[0] if isinstance(devices, list | tuple) and devices else 0


def _taken(lock: FileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True
