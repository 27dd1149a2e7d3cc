"""The names of what a training's time goes into, and how a piece of code is given one."""

from contextlib import AbstractContextManager

import pytorch_lightning as pl

TRAINING, VALIDATION, EPOCH_END, RUN_END = "training step", "validation step", "epoch's end", "run's end"
STEPS, PARTS = (TRAINING, VALIDATION), (TRAINING, VALIDATION, EPOCH_END, RUN_END)

BEGINS = {
    "train_dataloader_next": TRAINING,
    "val_next": VALIDATION,
    "on_validation_model_zero_grad": EPOCH_END,
    "on_validation_start": EPOCH_END,
    "on_validation_epoch_end": EPOCH_END,
    "on_train_epoch_end": EPOCH_END,
    "on_train_end": RUN_END,
}
"""Which of Lightning's hooks is the first of which part."""

PHASES = {
    "train_dataloader_next": "data wait",
    "val_next": "data wait",
    "batch_to_device": "transfer",
    "forward": "forward",
    "loss": "loss",
    "backward": "backward",
    "optimizer_step": "optimiser",  # less the closure within it, which has phases of its own
    "optimizer_zero_grad": "optimiser",
    "training_step": "metrics",  # less forward and loss
    "validation_step": "metrics",
    "metrics": "metrics",
    "rows": "rows",
    "TensorBoard": "TensorBoard",
    "checkpoint": "checkpoint",
    "maps and counts": "maps and counts",
    "pictures and pages": "pictures and pages",
}
"""Phases of hooks, Lightning's and our own; what is within a hook without a phase belongs to the one around it."""

OTHER = "other"


def during(trainer: pl.Trainer, phase: str) -> AbstractContextManager:
    """What runs within it is this phase, of those in PHASES, should somebody measure."""
    return trainer.profiler.profile(phase)  # type: ignore[attr-defined]


def phase_of(action_name: str) -> str | None:
    """The phase of one of Lightning's hooks, or of our own; None where it has none."""
    if action_name.startswith("[Callback]"):
        return "metrics" if action_name.startswith("[Callback]Gauges.") else "logging"
    return PHASES.get(action_name.rpartition(".")[2])
