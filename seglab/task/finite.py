"""The watch over losses that are no longer numbers, which never makes a device wait for the step that it is at."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from pytorch_lightning.strategies import Strategy
from torch import Tensor

AT_MOST = 50
"""Losses of a GPU that are asked for together. It answers while it goes on: the answer is read so many steps later."""

LEAST_SCALE = 2.0**-10
"""Factor of the loss in 16-mixed. It begins at 2^16; a step whose gradient is not finite is left out, and halves it.

Gradients that are that large already without a factor do not fit into float16, and hardly a step is taken.
"""


class NotFinite(RuntimeError):
    """The loss became NaN or infinite, or the gradients of 16-mixed do."""


def check_loss_scale(scaler: torch.amp.GradScaler | None) -> None:
    """Raises NotFinite where 16-mixed leaves out the steps of a training; the device is asked for the scale."""
    scale = scaler.get_scale() if scaler else 1.0
    if scale < LEAST_SCALE:
        raise NotFinite(
            f"the gradients are not finite in float16: the loss is scaled by {scale:g} already; "
            f"accepted are also precision=32 and bf16-mixed"
        )


class Question(NamedTuple):
    """Losses with their words, whether each is finite, and the event after which a GPU has answered."""

    losses: list[tuple[Tensor, Callable[[float], str]]]
    finite: Tensor
    answered: torch.cuda.Event | None


class LossWatch:
    """Losses since the last look, each with the words for it, and the first of them that was not finite.

    Processes that train together have unequal numbers of validation batches. They ask each other in `look` only, which
    all of them call at the same points. Until then one that saw such a loss goes on: the others wait for its gradients.
    """

    def __init__(self) -> None:
        self._losses: list[tuple[Tensor, Callable[[float], str]]] = []
        self._asked: Question | None = None
        self._seen = 0  # losses whose answer was read, by which processes find out who was first
        self._wrong: tuple[int, str] | None = None

    def add(self, loss: Tensor, where: Callable[[float], str], processes: int = 1) -> None:
        """Notes a scalar loss, and `where(its value)` as words for it.

        A process that trains alone raises NotFinite at once on a CPU, else some steps later or when `look` is called.
        """
        self._losses.append((loss.detach(), where))
        if loss.device.type == "cpu":
            self._ask()
            self._see()
        elif len(self._losses) == AT_MOST:
            self._see()  # the answer of AT_MOST steps ago
            self._ask()
        if processes == 1 and self._wrong:
            raise NotFinite(self._wrong[1])

    def look(self, strategy: Strategy, processes: int = 1) -> None:
        """Raises NotFinite, in all processes that train together, if a loss in any of them was not finite.

        All of them must call it.
        """
        self._see()
        self._ask()
        self._see()
        found = [self._wrong]
        if processes > 1 and strategy.reduce_boolean_decision(self._wrong is not None, all=False):
            found = [None] * processes
            torch.distributed.all_gather_object(found, self._wrong)
        wrong = [place for place in found if place]
        if wrong:
            raise NotFinite(min(wrong)[1])

    def _ask(self) -> None:
        if not self._losses:
            return
        answered = torch.cuda.Event() if self._losses[0][0].is_cuda and torch.cuda.is_available() else None
        finite = torch.isfinite(torch.stack([loss for loss, _ in self._losses]))
        finite = finite.to("cpu", non_blocking=answered is not None)
        if answered:
            answered.record()
        self._asked = Question(self._losses, finite, answered)
        self._losses = []

    def _see(self) -> None:
        if self._asked is None:
            return
        losses, finite, answered = self._asked
        self._asked = None
        if answered:
            answered.synchronize()
        wrong = finite.logical_not().nonzero().flatten().tolist()
        if self._wrong is None and wrong:
            loss, where = losses[wrong[0]]
            self._wrong = self._seen + wrong[0], where(loss.item())
        self._seen += len(losses)
