"""Depthwise convolution in bfloat16 on a CPU, whose input gradient oneDNN computes far too slowly.

With a stride s, y_s[i,j] = y_1[s i, s j]: the gradient of the input is that of the layer without stride, for an output
gradient that is zero in between. And that is again a convolution, with the kernel turned by 180 degrees. Both
gradients of [8,96,112,112] with stride 2, AMX, one thread: 67 ms natively, 10 this way, with the same error of 0.0017.
Without stride they take 0.7 to 0.8 of the native time. The weight gradient is fast natively, and so is all in float32.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

MULTIPLIES = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
"""True if this CPU multiplies bfloat16 in hardware, by AVX-512 or AMX. Where it is emulated, torch's way is faster."""


def depthwise(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """`F.conv2d(x, weight, stride=stride, padding=k // 2, groups=C)`, with a gradient that is fast in bfloat16, too.

    `x [B,C,H,W]`, `weight [C,1,k,k]` with an odd k.
    """
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    if MULTIPLIES and dtype == torch.bfloat16 and x.device.type == "cpu":
        return ByConvolution.apply(x.to(dtype), weight.to(dtype), stride)  # type: ignore[no-any-return]
    return F.conv2d(x, weight, None, stride, weight.shape[2] // 2, 1, x.shape[1])


class ByConvolution(torch.autograd.Function):
    """The convolution of `depthwise` in any dtype; the gradient of its input is a convolution, too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, None, stride, weight.shape[2] // 2, 1, x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        stride, channels, padding = ctx.stride, x.shape[1], weight.shape[2] // 2
        of_x = None
        if ctx.needs_input_grad[0]:
            spread = gradient if stride == 1 else torch.zeros_like(x)
            if stride > 1:
                spread[..., ::stride, ::stride] = gradient
            of_x = F.conv2d(spread, weight.flip(2, 3), None, 1, padding, 1, channels)
        geometry = [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], channels
        wanted = [False, ctx.needs_input_grad[1], False]
        return of_x, torch.ops.aten.convolution_backward(gradient, x, weight, None, *geometry, wanted)[1], None


class Depthwise(nn.Conv2d):
    """A depthwise `nn.Conv2d` without dilation, computed by `depthwise` unless a batch norm was folded into it."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) if self.bias is not None else depthwise(input, self.weight, self.stride[0])

    @classmethod
    def takes(cls, conv: nn.Module) -> bool:
        """True if `conv` is one that this class computes."""
        if not isinstance(conv, nn.Conv2d) or conv.groups != conv.in_channels or conv.bias is not None:
            return False
        (stride, *_), (size, *_) = conv.stride, conv.kernel_size
        square = conv.stride == (stride, stride) and conv.kernel_size == (size, size) and conv.dilation == (1, 1)
        halves = conv.padding == (size // 2, size // 2) and conv.padding_mode == "zeros" and size % 2 == 1
        return square and halves and size > 1 and conv.groups == conv.out_channels
