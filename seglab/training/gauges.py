"""Gauges of a training's health: gradient norms by stage, and how far batch norm's statistics lag."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from seglab.task.task import SegmentationTask

Statistics = tuple[nn.BatchNorm2d, Tensor, Tensor]
"""A layer with its running mean and variance as they were, float64."""


class Gauges(pl.Callback):
    """Sums over an epoch, kept on the device until `means` is asked, and in every checkpoint.

    The norms are those of a step's gradient: unscaled, before it is clipped, of all batches that are added up for the
    step, and averaged over the processes that train together.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._stages: dict[str, list[nn.Parameter]] = {}
        self._gap: Tensor | None = None
        self._before: list[Statistics] = []

    def on_train_start(self, trainer: pl.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        self._stages = task.net.stages()
        self._sums = {name: value.to(task.device) for name, value in self._sums.items()}

    def on_train_epoch_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self._sums, self._gap = {}, None

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, task: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        scale = loss_scale(trainer, task, optimizer)
        gradients = {stage: [p.grad for p in mine if p.grad is not None] for stage, mine in self._stages.items()}
        stages = [stage for stage, found in gradients.items() if found]  # none in a frozen encoder
        if not stages:
            return
        norms = torch.stack([torch.nn.utils.get_total_norm(gradients[stage]) for stage in stages]).double() / scale
        # a step of 16-mixed that overflows is not taken
        facts = (torch.stack([norms, torch.ones_like(norms)], 1) * norms.isfinite()[:, None]).nan_to_num()
        for stage, fact in zip(stages, facts, strict=True):
            self._sums[stage] = self._sums.get(stage, 0) + fact

    def on_train_batch_start(self, trainer: pl.Trainer, task: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == trainer.num_training_batches - 1:
            norms = [m for m in task.net.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
            self._before = [statistics(m) for m in norms if m.track_running_stats]

    def on_train_batch_end(self, trainer: pl.Trainer, task: Any, *_: Any) -> None:
        if self._before:
            self._gap = batch_norm_gap(self._before)
            self._before = []

    def means(self) -> dict[str, float]:
        """`gradient/<stage>`, the mean norm over the epoch's steps, and `batch_norm_gap`; NaN where there is none."""
        nothing = torch.full((2,), torch.nan)
        sums = {stage: self._sums.get(stage, nothing) for stage in self._stages}
        out = {f"gradient/{stage}": float(total / steps) for stage, (total, steps) in sums.items()}
        return out | {"batch_norm_gap": float("nan") if self._gap is None else float(self._gap)}

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self._sums)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._sums = dict(state_dict["sums"])


def loss_scale(trainer: pl.Trainer, task: pl.LightningModule, optimizer: torch.optim.Optimizer) -> Tensor | float:
    """Factor in the gradients that an optimiser is about to see.

    An optimiser of one kernel divides by the scale of 16-mixed within it, so that Lightning leaves that to it.
    """
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    unscales = getattr(optimizer, "_step_supports_amp_scaling", False)
    return scaler.scale(torch.ones((), device=task.device)) if scaler and unscales else 1.0


def statistics(module: nn.BatchNorm2d) -> Statistics:
    """A layer and copies of its running mean and variance."""
    assert module.running_mean is not None and module.running_var is not None
    return module, module.running_mean.double().clone(), module.running_var.double().clone()


def batch_norm_gap(before: list[Statistics]) -> Tensor:
    """Mean over channels of |batch mean - running mean| / running std + |ln(batch std / running std)|, after a batch.

    `after = (1 - m) before + m batch` gives the batch's statistics without another forward. The running ones are those
    that validation and prediction use. Means alone would miss what lags most in a MobileNetV2, the deviations: with a
    momentum of 0.01 on 7 steps an epoch they are off by a factor of 4 to 5 and the means by 0.1 std.
    """
    gaps = []
    for module, old_mean, old_var in before:
        assert module.running_mean is not None and module.running_var is not None and module.momentum is not None
        m, mean, var = module.momentum, module.running_mean.double(), module.running_var.double()
        batch_mean, batch_var = old_mean + (mean - old_mean) / m, (old_var + (var - old_var) / m).clamp_min(0)
        ratio = (batch_var + module.eps) / (var + module.eps)
        gaps.append((batch_mean - mean).abs() / (var + module.eps).sqrt() + ratio.log().abs() / 2)
    return torch.cat(gaps).mean()
