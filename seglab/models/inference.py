"""A trained network made ready for maps: every batch norm is part of the convolution before it."""

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

Net = TypeVar("Net", bound=nn.Module)


def for_inference(net: Net, own: bool = True) -> Net:
    """A copy of `net` in eval mode with the same logits: a batch norm that follows a convolution is folded into it.

    It is no longer for training. float32 rounds the product of two scales once more: logits differ in the last bits.
    Without `own`, weights that are not folded are those of `net` itself, so that it is good until `net` trains on.
    """
    out = (copy.deepcopy(net) if own else _with_same_weights(net)).eval()
    for module in list(out.modules()):
        for (owner, name), (next_owner, next_name) in pairwise(layers_in_order(module)):
            conv = getattr(owner, name)
            norm = getattr(next_owner, next_name)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats:
                setattr(owner, name, _folded(conv, norm))
                setattr(next_owner, next_name, nn.Identity())
    return out


def _with_same_weights(module: Net) -> Net:
    """A copy whose parameters and buffers are those of `module`."""
    return copy.deepcopy(module, {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())})


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    assert norm.running_mean is not None and norm.running_var is not None
    out = copy.copy(conv)
    out._parameters = {}  # those of a plain copy are the same dictionary
    statistics = norm.running_mean, norm.running_var, norm.eps
    out.weight, out.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics, norm.weight, norm.bias)
    return out


def layers_in_order(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Owner and name of each layer, as a Sequential and the Sequentials in it call them; nothing for other modules."""
    if type(module).forward is not nn.Sequential.forward:
        return
    for name, layer in module.named_children():
        inner = list(layers_in_order(layer))
        yield from inner or [(module, name)]
