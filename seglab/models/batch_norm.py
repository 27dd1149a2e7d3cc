"""Batch norms of a network that share one momentum, which may change at every step, and are counted together."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Momentum:
    """Weight of the newest batch in running statistics, also as a tensor: numbers are constants of compiled code."""

    def __init__(self, value: float):
        self.value = value
        self.tensor = torch.tensor(value)

    def set(self, value: float) -> None:
        """Changes it for all batch norms that share it."""
        if value != self.value:
            self.value = value
            self.tensor.fill_(value)


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose momentum is `shared`, and whose batches `Together` counts."""

    shared: Momentum

    @property  # type: ignore[override]
    def momentum(self) -> float:
        """The shared one."""
        return self.shared.value

    @momentum.setter
    def momentum(self, value: float) -> None:
        self.shared = Momentum(value)
        self.__dict__["momentum"] = value  # what torch's own class has, and prints

    def forward(self, input: Tensor) -> Tensor:
        learnt = self.running_mean, self.running_var, self.weight, self.bias
        if not self.training:
            return F.batch_norm(input, *learnt, eps=self.eps)
        if not torch.compiler.is_compiling():
            return F.batch_norm(input, *learnt, True, self.shared.value, self.eps)
        y, mean, inverse = torch.native_batch_norm(input, self.weight, self.bias, None, None, True, 0.0, self.eps)
        self._follow(mean.detach(), inverse.detach(), input.numel() // input.shape[1])
        return y

    def _follow(self, mean: Tensor, inverse: Tensor, count: int) -> None:
        assert self.running_mean is not None and self.running_var is not None
        variance = (inverse**-2 - self.eps).clamp_min(0) * (count / (count - 1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.shared.tensor)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.shared.tensor)


class Together:
    """The batch norms of `net`, each turned into the class above; weights and names stay.

    A step of a GPU is a row of launches, so what all of them need is done once and not by each.
    """

    def __init__(self, net: nn.Module):
        self._norms: list[BatchNorm2d] = []
        self.momentum = Momentum(0.1)
        for module in net.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = BatchNorm2d
            if isinstance(module, BatchNorm2d):
                module.shared = self.momentum
                self._norms.append(module)
        self.look()

    def look(self) -> None:
        """Notes which of them train, and where their counters lie now."""
        counters = [m.num_batches_tracked for m in self._norms if m.training]
        self._counters = [counter for counter in counters if counter is not None]

    def count(self) -> None:
        """Counts a batch in those that train."""
        if self._counters:
            torch._foreach_add_(self._counters, 1)

    def apply(self, change: Callable[[Tensor], Tensor]) -> None:
        """Follows the network to another device or type."""
        self.momentum.tensor = change(self.momentum.tensor)
        self.look()
