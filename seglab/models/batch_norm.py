"""Batch norm whose momentum may change at every step without a new compilation of compiled code."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` that keeps its momentum also in a tensor: compiled code takes a number for a constant."""

    momentum_now: Tensor

    def set_momentum(self, momentum: float) -> None:
        """The weight of the newest batch in the running statistics."""
        if momentum != self.momentum:
            self.momentum = momentum
            self.momentum_now.fill_(momentum)

    def forward(self, input: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            return super().forward(input)
        if not self.training:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        y, mean, inverse = torch.native_batch_norm(input, self.weight, self.bias, None, None, True, 0.0, self.eps)
        self._follow(mean.detach(), inverse.detach(), input.numel() // input.shape[1])
        return y

    def _follow(self, mean: Tensor, inverse: Tensor, count: int) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        variance = (inverse**-2 - self.eps).clamp_min(0) * (count / (count - 1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum_now)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum_now)
        self.num_batches_tracked.add_(1)


def following(net: nn.Module) -> list[BatchNorm2d]:
    """The batch norms of `net`, each turned into the class above; weights and names stay."""
    found: list[BatchNorm2d] = []
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = BatchNorm2d
        if isinstance(module, BatchNorm2d):
            assert module.momentum is not None
            module.register_buffer("momentum_now", torch.tensor(module.momentum), persistent=False)
            found.append(module)
    return found
