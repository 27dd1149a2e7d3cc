"""Names of the phases of a training's time, and how a piece of code gets one."""

from contextlib import AbstractContextManager

import pytorch_lightning as pl

TRAINING = "training step"
VALIDATION = "validation step"
EPOCH_END = "epoch's end"
RUN_END = "run's end"
STEPS = (TRAINING, VALIDATION)
PARTS = (TRAINING, VALIDATION, EPOCH_END, RUN_END)

BEGINS = {
    "train_dataloader_next": TRAINING,
    "val_next": VALIDATION,
    "on_validation_model_zero_grad": EPOCH_END,
    "on_validation_start": EPOCH_END,
    "on_validation_epoch_end": EPOCH_END,
    "on_train_epoch_end": EPOCH_END,
    "on_train_end": RUN_END,
}
"""Lightning's hook that begins a part -> the part."""

PHASES = {
    "train_dataloader_next": "data wait",
    "val_next": "data wait",
    "batch_to_device": "transfer",
    "forward": "forward",
    "loss": "loss",
    "backward": "backward",
    "optimizer_step": "optimiser",  # without the closure within it, which has its own phases
    "optimizer_zero_grad": "optimiser",
    "training_step": "metrics",  # without forward and loss
    "validation_step": "metrics",
    "metrics": "metrics",
    "TensorBoard": "TensorBoard",
    "checkpoint": "checkpoint",
    "maps and counts": "maps and counts",
    "pictures and pages": "pictures and pages",
}
"""Hook, Lightning's or our own -> its phase. A hook without a phase belongs to the phase around it."""

OTHER = "other"


def during(trainer: pl.Trainer, phase: str) -> AbstractContextManager:
    """Context whose time belongs to `phase`, a key of PHASES, if a profiler measures."""
    return trainer.profiler.profile(phase)  # type: ignore[attr-defined]


def phase_of(action_name: str) -> str | None:
    """Phase of a hook, Lightning's or our own; None if it has none."""
    if action_name.startswith("[Callback]"):
        return "metrics" if action_name.startswith("[Callback]Gauges.") else "logging"
    return PHASES.get(action_name.rpartition(".")[2])
