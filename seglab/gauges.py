"""What tells a healthy training from a sick one: gradient norms by stage, and how far batch norm's statistics lag."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from seglab.task import SegmentationTask


class Gauges(pl.Callback):
    """Sums over an epoch, kept on the device until `means` is asked, and in every checkpoint.

    The norms are those that the optimiser sees: unscaled, and averaged over the processes that train together.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._stages: dict[str, list[nn.Parameter]] = {}
        self._gap: Tensor | None = None
        self._before: list[tuple[nn.BatchNorm2d, Tensor]] = []

    def on_train_start(self, trainer: pl.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        self._stages = task.net.stages()
        self._sums = {name: value.to(task.device) for name, value in self._sums.items()}

    def on_train_epoch_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self._sums, self._gap = {}, None

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, task: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        for stage, parameters in self._stages.items():
            gradients = [p.grad for p in parameters if p.grad is not None]
            if gradients:  # none in a frozen encoder
                norm = torch.nn.utils.get_total_norm(gradients).double()
                # a step of 16-mixed that overflows is not taken
                fact = torch.stack([norm, torch.ones_like(norm)]) * norm.isfinite()
                self._sums[stage] = self._sums.get(stage, 0) + fact.nan_to_num()

    def on_train_batch_start(self, trainer: pl.Trainer, task: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == trainer.num_training_batches - 1:
            norms = [m for m in task.net.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
            self._before = [(m, m.running_mean.clone()) for m in norms if m.running_mean is not None]

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


def batch_norm_gap(before: list[tuple[nn.BatchNorm2d, Tensor]]) -> Tensor:
    """Mean over all channels of |batch mean - running mean| / running standard deviation, after a batch.

    `before` holds each layer and its running mean before that batch: `after = (1 - m) before + m batch` gives the
    batch mean without another forward. The running statistics are those that validation and prediction use.
    """
    gaps = []
    for module, old in before:
        assert module.running_mean is not None and module.running_var is not None and module.momentum is not None
        moved = (module.running_mean - old).double() / module.momentum  # batch mean - old
        deviation = (module.running_var.double() + module.eps).sqrt()
        gaps.append((1 - module.momentum) * moved.abs() / deviation)
    return torch.cat(gaps).mean()
