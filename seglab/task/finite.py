"""The watch over losses that are no longer numbers, which never makes a device wait for the step that it is at."""

from collections.abc import Callable

import torch
from pytorch_lightning.strategies import Strategy
from torch import Tensor

AT_MOST = 50
"""Steps that a GPU runs ahead: asking it for a loss empties its queue."""


class NotFinite(RuntimeError):
    """The loss became NaN or infinite."""


class LossWatch:
    """Losses since the last look, each with the words for it."""

    def __init__(self) -> None:
        self._losses: list[tuple[Tensor, Callable[[float], str]]] = []

    def add(self, loss: Tensor, where: Callable[[float], str], strategy: Strategy) -> None:
        """Notes a scalar loss, and `where(its value)` as words for it.

        Raises NotFinite at once on a CPU, else some steps later or when `look` is called.
        """
        self._losses.append((loss.detach(), where))
        if loss.device.type == "cpu" or len(self._losses) == AT_MOST:
            self.look(strategy)

    def look(self, strategy: Strategy) -> None:
        """Raises NotFinite, in all processes that train together, if a loss in any of them was not finite."""
        losses, self._losses = self._losses, []
        if not losses:
            return
        wrong = torch.stack([~torch.isfinite(loss) for loss, _ in losses])
        if strategy.reduce_boolean_decision(bool(wrong.any()), all=False):
            said = [where(loss.item()) for (loss, where), bad in zip(losses, wrong.tolist(), strict=True) if bad]
            raise NotFinite(said[0] if said else "the loss of another of the processes that train together")
