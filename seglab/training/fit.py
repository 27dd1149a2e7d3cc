"""One training: from a checkpoint or from the start to the last epoch."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import MappingProxyType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.profilers import Profiler

from seglab.config.parts import build_task, build_trainer
from seglab.config.schema import Config
from seglab.data import SegmentationData
from seglab.machine.processes import usable_cores, without_slurm_tasks
from seglab.run.checkpoints import Found, state_dict
from seglab.task.task import SegmentationTask

EXPLAINED_WARNINGS = (
    "The '.*_dataloader' does not have many workers",  # pixels come from a memory map: workers gain nothing
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # within pytorch-lightning 2.6.6 on torch 2.14
    r"Found .* module\(s\) in eval mode at the start of training",  # a frozen encoder is meant to be
    "The `srun` command is available on your system but is not used",  # one process a training is meant
    "You're resuming from a checkpoint that ended before the epoch ended",  # the order goes on at the right batch
)


@contextmanager
def trainer_of(
    config: Config,
    callbacks: list[pl.Callback],
    profiler: Profiler | None = None,
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[pl.Trainer]:
    """A Trainer with `changes` to its arguments, without the warnings that are explained.

    Several processes that train together are started by it, on Slurm too, unless Slurm starts each as a task.
    """
    own_processes = without_slurm_tasks() if config.together else nullcontext()
    with warnings.catch_warnings(), own_processes:
        for message in EXPLAINED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        yield build_trainer(config, callbacks, profiler, {**config.trainer, **changes})


def task_of(config: Config, data: SegmentationData) -> SegmentationTask:
    """The task of a config; its network takes the range of values of the data, which are read already."""
    task = build_task(config)
    if data.value_range is not None:
        task.net.set_value_range(*data.value_range)
    return task


def fit(trainer: pl.Trainer, config: Config, data: SegmentationData, found: Found | None) -> SegmentationTask:
    """Trains to the last epoch, resuming from a checkpoint; a finished one is only loaded, onto the device."""
    data.resume_at(found.epochs if found else 0, found.batches if found else 0)
    cores = usable_cores() // trainer.num_devices
    data.supply.send_to(trainer.strategy.root_device, min(cores, config.threads or cores))
    task = task_of(config, data)
    if found and found.epochs == config.epochs:
        task.load_state_dict(state_dict(found.path))
        return task.to(trainer.strategy.root_device)
    trainer.fit(task, datamodule=data, ckpt_path=found.path if found else None, weights_only=True)
    return task
