"""One training: from a checkpoint or from the start to the last epoch."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.profilers import Profiler

from seglab.config.parts import build_task, build_trainer
from seglab.config.schema import Config
from seglab.data import SegmentationData
from seglab.machine.processes import gpu_of_its_own
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
    """A Trainer on a device of its own, without the warnings that are explained; `changes` to its arguments."""
    with warnings.catch_warnings(), gpu_of_its_own(config.trainer) as arguments:
        for message in EXPLAINED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        yield build_trainer(config, callbacks, profiler, {**arguments, **changes})


def fit(trainer: pl.Trainer, config: Config, data: SegmentationData, found: Found | None) -> SegmentationTask:
    """Trains to the last epoch, resuming from a checkpoint; a finished one is only loaded, onto the device."""
    data.resume_at(found.epochs if found else 0, found.batches if found else 0)
    task = build_task(config)
    if found and found.epochs == config.epochs:
        task.load_state_dict(state_dict(found.path))
        return task.to(trainer.strategy.root_device)
    trainer.fit(task, datamodule=data, ckpt_path=found.path if found else None, weights_only=True)
    return task
