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

TRAIN = Path(__file__).parent.parent.parent / "train.py"


def in_a_fresh_process(overrides: Sequence[str]) -> None:
    """Runs train.py with these overrides as one job.

    Within a multirun, Lightning's DDP would start the whole sweep again in every process (Lightning#11300).
    """
    environment = {k: v for k, v in os.environ.items() if k not in (*LEAKS, "HYDRA_FULL_ERROR")}
    with stopping_softly(pass_on=True):
        subprocess.run([sys.executable, str(TRAIN), *overrides, "hydra.mode=RUN"], env=environment, check=False)


@contextmanager
def gpu_of_its_own(trainer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Arguments of the Trainer; if there are several GPUs, with one that no other training of ours uses.

    If all are taken, trainings share them. The process id chooses the GPU, so that trainings spread.
    """
    count = torch.cuda.device_count()
    if count < 2 or trainer.get("devices") != 1 or trainer["accelerator"] == "cpu":
        yield dict(trainer)
        return
    locks = [FileLock(Path(tempfile.gettempdir()) / f"seglab-gpu-{os.getuid()}-{i}.lock") for i in range(count)]
    free = next((i for i, lock in enumerate(locks) if _taken(lock)), None)
    try:
        yield {**trainer, "devices": [os.getpid() % count if free is None else free]}
    finally:
        if free is not None:
            locks[free].release()


def _taken(lock: FileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True
