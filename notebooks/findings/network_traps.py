"""Traps of the original system in the network: batch norm that lags, outputs that die, parameters counted wrong."""

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from segmentation_models_pytorch.decoders.deeplabv3.decoder import ASPPSeparableConv
from torch import Tensor, nn
from torch.nn.functional import relu

from seglab.data.synthetic import draw_scene
from seglab.labels import one_hot
from seglab.losses import CrossEntropy
from seglab.machine.isolation import isolated
from seglab.models.deeplabv3plus import DeepLabV3Plus
from seglab.models.network import Network
from seglab.models.unet import UNet
from seglab.scores import confusion, miou

Scenes = Sequence[tuple[np.ndarray, np.ndarray]]
"""Images `uint8 [H,W,3]` and their labels `uint8 [H,W]`, all of one size."""

Batches = Sequence[tuple[Tensor, Tensor]]
"""Images `float [B,3,H,W]` in 0..255 and masks `uint8 [B,H,W]`."""

Loss = Callable[[Tensor, Tensor], Tensor]
NUM_CLASSES = 4


def drawn_scenes(count: int, size: int) -> Scenes:
    """Drawn scenes of `size` x `size` pixels."""
    return [draw_scene(0, scene, size, size) for scene in range(count)]


def kept_share(momentum: float, steps: int) -> float:
    """Share of the first running statistics left after these steps; `momentum` weighs the old ones (Keras)."""
    return momentum**steps


class BatchNormScores(NamedTuple):
    """mIoU of the same weights on the same images: by the statistics of the batch, by running ones, by new ones."""

    of_batch: float
    as_map: float
    re_estimated: float


@isolated(threads=1)
def lagging_batch_norm(
    scenes: Scenes,
    encoder_weights: str | None = None,
    steps: int = 120,
    batch_size: int = 4,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> dict[str, BatchNormScores]:
    """Scores on its training images of a DeepLabV3+ that is trained as in the original, and of one as today.

    The original had Keras's momentum 0.999, 0.001 in torch, and inputs in 0..1 for an encoder whose statistics are of
    other ones. Today the model normalises its input, and the momentum is 0.1, more in the first steps of an epoch.
    """
    batches = batches_of(scenes, batch_size)
    found = {}
    for name in ("original", "today"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = DeepLabV3Plus(NUM_CLASSES, encoder_weights)
            if name == "original":
                net.scale.fill_(1 / 255)
                net.shift.zero_()
                set_momentum(net, 0.001)  # no longer the shared one, which `start_batch` sets
            train(net, batches, steps, learning_rate, CrossEntropy())
        ways = by_batch_statistics(net), net.eval(), re_estimated(net, batches)
        found[name] = BatchNormScores(*(score(way, batches) for way in ways))
    return found


def batches_of(scenes: Scenes, batch_size: int) -> Batches:
    """The scenes in their order; ValueError unless all batches are full."""
    if not scenes or len(scenes) % batch_size:
        raise ValueError(f"{len(scenes)} scenes, batch_size {batch_size}: expected full batches")
    images = torch.from_numpy(np.stack([image for image, _ in scenes])).permute(0, 3, 1, 2).float()
    masks = torch.from_numpy(np.stack([label for _, label in scenes]))
    return list(zip(images.split(batch_size), masks.split(batch_size), strict=True))


def train(net: Network, batches: Batches, steps: int, learning_rate: float, loss: Loss) -> None:
    """Trains with Adam on the batches in their order, again and again."""
    net.train()
    optimizer = torch.optim.Adam(net.parameters(), learning_rate)
    for step in range(steps):
        index = step % len(batches)
        net.start_batch(index)
        image, mask = batches[index]
        optimizer.zero_grad()
        loss(net(image), one_hot(mask, NUM_CLASSES).float()).backward()
        optimizer.step()


def batch_norms(net: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]


def set_momentum(net: nn.Module, momentum: float) -> None:
    """Sets the weight of the newest batch in the running statistics of all batch norms."""
    for norm in batch_norms(net):
        norm.momentum = momentum


def by_batch_statistics(net: Network) -> Network:
    """A copy whose batch norms use the statistics of the batch, as in training, and which is else in eval mode."""
    out = copy.deepcopy(net).eval()
    for norm in batch_norms(out):
        norm.train()
    return out


def re_estimated(net: Network, batches: Batches) -> Network:
    """A copy in eval mode whose running statistics are the means over those of these batches."""
    out = by_batch_statistics(net)
    with torch.no_grad():
        for i, (image, _) in enumerate(batches):
            set_momentum(out, 1 / (i + 1))
            out(image)
    return out.eval()


def score(net: Network, batches: Batches) -> float:
    """mIoU over all images, in the mode that the network is in."""
    counts = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    with torch.no_grad():
        for image, mask in batches:
            counts += confusion(mask.numpy(), net(image).max(1).indices.numpy(), NUM_CLASSES)
    return float(miou(counts))


class Dead(NamedTuple):
    """Shares of the trainings without any gradient left, and of the outputs whose weights get none."""

    networks: float
    outputs: float


@isolated(threads=1)
def dead_outputs(
    scenes: Scenes, seeds: Sequence[int] = range(12), steps: int = 60, learning_rate: float = 0.02
) -> dict[str, Dead]:
    """Shares of gradients that are exactly 0 on all scenes, after a tiny U-Net without batch norm trained on them.

    `no_softmax`: no activation anywhere, and Keras's binary cross-entropy of the outputs. `relu_on_logits`:
    cross-entropy of the softmax of max(logit, 0). `linear_logits`: today's. A batch is one image. The learning rate is
    twenty times that of the original, so that a few steps show what thousands did.
    """
    batches = batches_of(scenes, 1)
    ends: dict[str, Loss] = {
        "no_softmax": clipped_binary_cross_entropy,
        "relu_on_logits": of_rectified,
        "linear_logits": CrossEntropy(),
    }
    found = {}
    for name, loss in ends.items():
        left = []
        for seed in seeds:
            net = tiny_unet(seed, activation=name != "no_softmax")
            train(net, batches, steps, learning_rate, loss)
            left.append(without_gradient(net, batches, loss))
        found[name] = Dead(*(float(share) for share in np.mean(left, 0)))
    return found


def tiny_unet(seed: int, activation: bool) -> UNet:
    """A U-Net of 4 channels and 2 halvings without batch norm, whose input is in 0..1 as the original's was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = UNet(NUM_CLASSES, min_kernel_num=4, depth=2, batch_norm=False)
    net.scale.fill_(1 / 255)
    net.shift.zero_()
    for module in net.modules():
        if isinstance(module, nn.Sequential) and not activation:
            for name, layer in module.named_children():
                if isinstance(layer, nn.ReLU):
                    setattr(module, name, nn.Identity())
    return net


def without_gradient(net: Network, batches: Batches, loss: Loss) -> tuple[float, float]:
    """1 if no weight gets a gradient on any of the batches, else 0, and the share of the outputs of which it is so."""
    net.zero_grad()
    for image, mask in batches:
        loss(net(image), one_hot(mask, NUM_CLASSES).float()).backward()
    head = net.net.get_submodule("segmentation_head").get_parameter("bias").grad
    assert head is not None
    whole = all(p.grad is None or not p.grad.any() for p in net.parameters())
    return float(whole), float((head == 0).double().mean())


def clipped_binary_cross_entropy(outputs: Tensor, target: Tensor) -> Tensor:
    """Keras's `BinaryCrossentropy` of outputs that it takes for probabilities: no gradient outside of 0..1."""
    p = outputs.clamp(1e-7, 1 - 1e-7)
    return -(target * p.log() + (1 - target) * (1 - p).log()).mean()


def of_rectified(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of logits after a ReLU."""
    return CrossEntropy()(relu(logits), target)


class Parameters(NamedTuple):
    """Numbers of a part of DeepLabV3+ with MobileNetV2 and 4 classes, running statistics with them, as Keras counts."""

    original: int
    today: int


def parameter_counts() -> dict[str, Parameters]:
    """Parts of the original by arithmetic, beside those counted in today's model.

    `atrous` are the kernels of the dilated convolutions, `pyramid` is the rest of the spatial pyramid around them.
    """
    norm, width, low, deep = 4, 256, 144, 576  # numbers for each channel of a batch norm; channels
    original = {
        "encoder": mobilenet_v2_up_to_block_13(),
        "atrous": 5 * 9 * deep * width,
        "pyramid": 2 * deep * width + 7 * width * width + 8 * norm * width,  # 1x1, pooling, projection of the 7
        "decoder": (low + 1) * width,
        "head": (9 * 2 * width + 1) * NUM_CLASSES,
    }
    net = DeepLabV3Plus(NUM_CLASSES)
    parts = {name.removeprefix("segmentation_"): numbers(part) for name, part in net.net.named_children()}
    pyramid = net.bottleneck()
    atrous = sum(numbers(branch[0]) for branch in pyramid.modules() if isinstance(branch, ASPPSeparableConv))
    parts |= {"atrous": atrous, "pyramid": numbers(pyramid) - atrous, "decoder": parts["decoder"] - numbers(pyramid)}
    return {name: Parameters(count, parts[name]) for name, count in original.items()}


def numbers(module: nn.Module) -> int:
    """Number of its parameters and running statistics."""
    return sum(value.numel() for value in module.state_dict().values() if value.is_floating_point())


def mobilenet_v2_up_to_block_13(norm: int = 4) -> int:
    """Numbers of Keras's MobileNetV2 from the image to `block_13_expand_relu`, at 1/16 of its size."""
    total = (9 * 3 + norm) * 32 + (9 + norm) * 32 + (32 + norm) * 16
    channels = 16
    for out, blocks in ((24, 2), (32, 3), (64, 4), (96, 3)):
        for _ in range(blocks):
            wide = 6 * channels
            total += (channels + norm) * wide + (9 + norm) * wide + (wide + norm) * out
            channels = out
    return total + (channels + norm) * 6 * channels
