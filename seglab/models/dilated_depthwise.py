"""Dilated depthwise convolution by ordinary means: oneDNN's is slow, and its weight gradient in bfloat16 is wrong."""

from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from seglab.models.depthwise import depthwise

SHIFTS_UP_TO = 7.0
"""Passes over the image up to which adding shifted products is faster than two copies and a convolution of 9 taps."""


class Tap(NamedTuple):
    """Element (i, j) of a kernel, the part of the output that it reaches, and the part of the input that it meets."""

    i: int
    j: int
    reached: tuple[Any, slice, slice]
    met: tuple[Any, slice, slice]


def dilated_depthwise(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """`F.conv2d(x, weight, padding=dilation * (k // 2), dilation=dilation, groups=C)`, which a GPU does natively.

    `x [B,C,H,W]`, `weight [C,1,k,k]` with an odd k, output `[B,C,H,W]`.
    """
    channels, _, size, _ = weight.shape
    if x.device.type != "cpu":
        return F.conv2d(x, weight, None, 1, dilation * (size // 2), dilation, channels)
    taps, passes = taps_inside(x.shape[2], x.shape[3], size, dilation)
    fits = x.shape[2] % dilation == 0 and x.shape[3] % dilation == 0
    if passes > SHIFTS_UP_TO and fits:
        return interleaved(x, weight, dilation)
    if torch.is_autocast_enabled("cpu"):
        x, weight = (t.to(torch.get_autocast_dtype("cpu")) for t in (x, weight))
    return _Shifted.apply(x, weight, taps)  # type: ignore[no-any-return]


def taps_inside(height: int, width: int, size: int, dilation: int) -> tuple[list[Tap], float]:
    """The taps that meet more than padding, the centre first, and how many images they meet in all."""
    taps = []
    passes = 0.0
    for i, j in product(range(size), repeat=2):
        dy, dx = (i - size // 2) * dilation, (j - size // 2) * dilation
        if abs(dy) < height and abs(dx) < width:
            met = ..., slice(max(0, dy), height + min(0, dy)), slice(max(0, dx), width + min(0, dx))
            reached = ..., slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx))
            taps.append(Tap(i, j, reached, met))
            passes += (1 - abs(dy) / height) * (1 - abs(dx) / width)
    return sorted(taps, key=lambda t: (t.i, t.j) != (size // 2, size // 2)), passes


class _Shifted(torch.autograd.Function):
    """The sum of shifted products: very fast where most taps meet only padding."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, taps: list[Tap]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.taps = taps
        return _shifted(x, weight, [(t.i, t.j, t.reached, t.met) for t in taps])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_weight = torch.zeros_like(weight)
        for tap in ctx.taps:
            of_weight[:, 0, tap.i, tap.j] = (gradient[tap.reached] * x[tap.met]).sum((0, 2, 3))
        wanted = ctx.needs_input_grad[0]
        of_x = _shifted(gradient, weight, [(t.i, t.j, t.met, t.reached) for t in ctx.taps]) if wanted else None
        return of_x, of_weight, None


def _shifted(x: Tensor, weight: Tensor, taps: list[tuple[int, int, Any, Any]]) -> Tensor:
    each = weight[:, 0].permute(1, 2, 0).contiguous()[..., None, None]  # [k,k,C,1,1]; apart, they take 5 times as long
    (i, j, _, _), *others = taps
    out = x * each[i, j]
    for i, j, reached, met in others:
        out[reached].addcmul_(x[met], each[i, j])
    return out


def interleaved(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """An ordinary convolution of the dilation x dilation interleaved sub-images, each a smaller image of the batch.

    `dilation` must divide H and W.
    """
    batch, channels, height, width = x.shape
    h, w = height // dilation, width // dilation
    x = x.permute(0, 2, 3, 1).reshape(batch, h, dilation, w, dilation, channels).permute(0, 2, 4, 1, 3, 5)
    x = x.reshape(batch * dilation**2, h, w, channels).permute(0, 3, 1, 2)
    y = depthwise(x, weight).permute(0, 2, 3, 1)
    y = y.reshape(batch, dilation, dilation, h, w, channels).permute(0, 3, 1, 4, 2, 5)
    return y.reshape(batch, height, width, channels).permute(0, 3, 1, 2)


class DilatedDepthwise(nn.Conv2d):
    """A depthwise `nn.Conv2d` that keeps H and W, computed by `dilated_depthwise`."""

    def forward(self, input: Tensor) -> Tensor:
        out = dilated_depthwise(input, self.weight, self.dilation[0])
        return out if self.bias is None else out + self.bias[:, None, None]

    @classmethod
    def takes(cls, conv: nn.Module) -> bool:
        """True if `conv` is one that this class computes."""
        if not isinstance(conv, nn.Conv2d) or conv.groups != conv.in_channels:
            return False
        (dilation, *_), (size, *_) = conv.dilation, conv.kernel_size
        same = conv.dilation == (dilation, dilation) and conv.kernel_size == (size, size) and conv.stride == (1, 1)
        keeps = conv.padding == (dilation * (size // 2),) * 2 and conv.padding_mode == "zeros" and size % 2 == 1
        return same and keeps and dilation > 1 and conv.groups == conv.out_channels
