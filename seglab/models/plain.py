"""A trained network as plain layers of torch, for programs that trace it: the same weights, names and logits."""

from types import MethodType
from typing import TypeVar

import torch
from segmentation_models_pytorch.decoders.deeplabv3.decoder import ASPPPooling
from torch import Tensor, nn

from seglab.models.batch_norm import BatchNorm2d
from seglab.models.deeplabv3plus import Pooling, PoolingBatchNorm
from seglab.models.depthwise import Depthwise
from seglab.models.dilated_depthwise import DilatedDepthwise
from seglab.models.inference import for_inference
from seglab.models.network import Network
from seglab.models.rewrites import FASTER

Net = TypeVar("Net", bound=Network)

PLAIN: dict[type[nn.Module], type[nn.Module]] = {
    **{faster: own for own, faster in FASTER.items()},
    DilatedDepthwise: nn.Conv2d,
    Depthwise: nn.Conv2d,
    BatchNorm2d: nn.BatchNorm2d,
    PoolingBatchNorm: nn.BatchNorm2d,
    Pooling: ASPPPooling,
}
"""The layer of torch, or of smp, that each of ours replaces."""


def plain(net: Net) -> Net:
    """A copy of `net` for maps in float32, in which no layer asks how large its image is.

    Batch norms are folded as in `for_inference`, and every image is padded, if by nothing.
    """
    out = for_inference(net).float().requires_grad_(False)
    for module in out.modules():
        module.__class__ = PLAIN.get(type(module), type(module))
        if getattr(module, "inplace", False):  # tracing pays several times for what is changed in place
            module.inplace = False  # type: ignore[assignment]
    out._padded = MethodType(_padded, out)  # type: ignore[method-assign]
    return out.lay_out(torch.contiguous_format)


def _padded(self: Network, image: Tensor) -> Tensor:
    """Pads by index: traced sizes are then plain multiples of the divisor, and tracing takes half as long."""
    for axis in (2, 3):
        size = image.shape[axis]
        blocks = (size + self.divisor - 1) // self.divisor  # of a negative number, ONNX would round towards 0
        padded = torch.arange(blocks * self.divisor, device=image.device)
        image = image.index_select(axis, padded.clamp(max=size - 1))
    return image
