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
    """Losses since the last look, each with the words for it, and the first of them that was not finite.

    Processes that train together have unequal numbers of validation batches. They ask each other in `look` only, which
    all of them call at the same points. Until then one that saw such a loss goes on: the others wait for its gradients.
    """

    def __init__(self) -> None:
        self._losses: list[tuple[Tensor, Callable[[float], str]]] = []
        self._seen = 0  # losses that were asked for, by which processes find out who was first
        self._wrong: tuple[int, str] | None = None

    def add(self, loss: Tensor, where: Callable[[float], str], processes: int = 1) -> None:
        """Notes a scalar loss, and `where(its value)` as words for it.

        A process that trains alone raises NotFinite at once on a CPU, else some steps later or when `look` is called.
        """
        self._losses.append((loss.detach(), where))
        if loss.device.type == "cpu" or len(self._losses) == AT_MOST:
            self._see()
            if processes == 1 and self._wrong:
                raise NotFinite(self._wrong[1])

    def look(self, strategy: Strategy, processes: int = 1) -> None:
        """Raises NotFinite, in all processes that train together, if a loss in any of them was not finite.

        All of them must call it.
        """
        self._see()
        found = [self._wrong]
        if processes > 1 and strategy.reduce_boolean_decision(self._wrong is not None, all=False):
            found = [None] * processes
            torch.distributed.all_gather_object(found, self._wrong)
        wrong = [place for place in found if place]
        if wrong:
            raise NotFinite(min(wrong)[1])

    def _see(self) -> None:
        losses = self._losses
        self._losses = []
        if not losses:
            return
        wrong = (~torch.isfinite(torch.stack([loss for loss, _ in losses]))).tolist()
        if self._wrong is None and any(wrong):
            first = wrong.index(True)
            loss, where = losses[first]
            self._wrong = self._seen + first, where(loss.item())
        self._seen += len(losses)
