"""Layers computed faster: each keeps the weights, names and results of the layer that it replaces."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from seglab.models.depthwise import Depthwise
from seglab.models.dilated_depthwise import DilatedDepthwise


class _ReLU6InPlace(torch.autograd.Function):
    """ReLU6 that keeps its output for the backward pass: torch's own `hardtanh_` keeps a copy of its input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = F.relu6(x, inplace=True)
        ctx.mark_dirty(y)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return torch.ops.aten.hardtanh_backward(gradient, *ctx.saved_tensors, 0.0, 6.0)


class ReLU6(nn.ReLU6):
    """`nn.ReLU6(inplace=True)` after a layer that does not need its output in the backward pass, like batch norm."""

    def forward(self, input: Tensor) -> Tensor:
        return _ReLU6InPlace.apply(input) if input.requires_grad else super().forward(input)  # type: ignore[no-any-return]


class _ChannelsLastGradient(torch.autograd.Function):
    """Identity; a gradient that comes as a slice or in another layout is copied once into channels_last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.detach()  # `view_as` would give a batch of one strides that no longer say channels_last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous(memory_format=torch.channels_last)


class _Bilinear(torch.autograd.Function):
    """Bilinear upsampling with aligned corners. Its gradient is that of two matrices, one of rows and one of columns.

    torch's own gradient adds up in the order in which the threads of a GPU arrive (pytorch#68961).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: Any, scale_factor: Any) -> Tensor:
        ctx.size = x.shape[2:]
        size, factors = ([v] * 2 if isinstance(v, int | float) else v for v in (size, scale_factor))
        return torch.ops.aten.upsample_bilinear2d(x, size, True, factors)  # F.interpolate would take other kernels

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        like = gradient.double() if gradient.dtype == torch.double else gradient.float()
        rows, columns = (interpolation(*sizes, like) for sizes in zip(ctx.size, gradient.shape[2:], strict=True))
        x = columns.T @ like.permute(0, 2, 3, 1)  # [B,H,w,C]
        x = (rows.T @ x.flatten(2)).unflatten(2, x.shape[2:])  # [B,h,w,C]
        return x.permute(0, 3, 1, 2).to(gradient.dtype), None, None


def interpolation(coarse: int, fine: int, like: Tensor) -> Tensor:
    """The matrix `[fine,coarse]` of linear interpolation with aligned corners, on the device and in the type of `like`.

    The weight of a point falls linearly from 1 there to 0 at its neighbours.
    """
    step = (coarse - 1) / (fine - 1) if fine > 1 else 0.0
    place, point = (torch.arange(n, dtype=like.dtype, device=like.device) for n in (fine, coarse))
    return (1 - (step * place[:, None] - point).abs()).clamp_(min=0)


class Upsampling(nn.Upsample):
    """`nn.Upsample`; a gradient that is a slice of a concatenation would take 18 ms instead of 1.5 for 8x256x56x56.

    Where torch is asked for deterministic algorithms, the gradient has the same bits again, on a GPU too, and the map
    those that it has without.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.mode == "bilinear" and self.align_corners and torch.are_deterministic_algorithms_enabled():
            return _Bilinear.apply(input, self.size, self.scale_factor)  # type: ignore[no-any-return]
        return _ChannelsLastGradient.apply(super().forward(input))  # type: ignore[no-any-return]


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """`nn.AdaptiveAvgPool2d`; without this, its gradient would turn each sum with it into channels-first."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(_ChannelsLastGradient.apply(input))


FASTER: dict[type[nn.Module], type[nn.Module]] = {
    nn.ReLU6: ReLU6,
    nn.Upsample: Upsampling,
    nn.AdaptiveAvgPool2d: AdaptiveAvgPool2d,
}


def rewritten(net: nn.Module) -> nn.Module:
    """`net` itself, its layers computed by the classes above, DilatedDepthwise and Depthwise where they apply."""
    for module in net.modules():
        depthwise = next((c for c in (DilatedDepthwise, Depthwise) if c.takes(module)), None)
        module.__class__ = depthwise or FASTER.get(type(module), type(module))
    return net
