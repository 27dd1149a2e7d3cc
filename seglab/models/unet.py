"""The plain U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597), with padded convolutions."""

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn

from seglab.models.network import Network, check_at_least


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions, each followed by ReLU, with batch norm between if wanted."""

    def __init__(self, in_channels: int, out_channels: int, batch_norm: bool):
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers.append(nn.Conv2d(channels, out_channels, 3, padding=1, bias=not batch_norm))
            layers += [nn.BatchNorm2d(out_channels)] if batch_norm else []
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class Encoder(nn.Module):
    """Image `[B,C,H,W]` -> one feature map for each of `channels`, each half the size of the one before."""

    def __init__(self, channels: list[int], batch_norm: bool, in_channels: int = 3):
        super().__init__()
        self.levels = nn.ModuleList(DoubleConv(a, b, batch_norm) for a, b in pairwise([in_channels, *channels]))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        for level in self.levels:
            features.append(level(self.pool(features[-1]) if features else x))
        return features


class Decoder(nn.Module):
    """The encoder's feature maps -> one map `[B,channels[0],H,W]`, merging them from the deepest up."""

    def __init__(self, channels: list[int], batch_norm: bool):
        super().__init__()
        steps = list(pairwise(reversed(channels)))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(deep, skip, 2, stride=2) for deep, skip in steps)
        self.levels = nn.ModuleList(DoubleConv(2 * skip, skip, batch_norm) for _, skip in steps)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        for up, level, skip in zip(self.ups, self.levels, reversed(features[:-1]), strict=True):
            x = level(torch.cat([skip, up(x)], dim=1))
        return x


def he_initialise(module: nn.Module) -> None:
    """Normal weights of variance 2 / fan-in (He et al. 2015, https://arxiv.org/abs/1502.01852), zero biases."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        # A transposed convolution whose stride is its kernel size gives each output pixel one tap per channel.
        taps = 1 if isinstance(module, nn.ConvTranspose2d) else module.weight[0, 0].numel()
        nn.init.normal_(module.weight, std=(2 / (module.in_channels * taps)) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class UNet(Network):
    """U-Net of `depth` halvings with `min_kernel_num * 2**level` channels; `weights` is None or the path of a file."""

    # oneDNN's weight gradient of a dense 3x3 convolution is 1.3 to 4 times slower in channels_last (AVX2, measured)
    float32_layout = torch.contiguous_format

    def __init__(
        self,
        num_classes: int,
        min_kernel_num: int = 64,
        depth: int = 4,
        batch_norm: bool = True,
        weights: str | None = None,
        in_channels: int = 3,
    ):
        check_at_least("num_classes", num_classes, 2)
        check_at_least("min_kernel_num", min_kernel_num, 1)
        check_at_least("depth", depth, 1)
        channels = [min_kernel_num * 2**level for level in range(depth + 1)]
        parts: dict[str, nn.Module] = {
            "encoder": Encoder(channels, batch_norm, in_channels),
            "decoder": Decoder(channels, batch_norm),
            "segmentation_head": nn.Conv2d(min_kernel_num, num_classes, 1),
        }
        net = nn.Sequential(OrderedDict(parts)).apply(he_initialise)
        super().__init__(net, divisor=2**depth, weights=weights)
        # two 3x3 convolutions on each level down to 2**depth, and up again, where an upsampling adds half a pixel
        self.reach = 2 * (2 ** (depth + 1) - 1) + 3 * (2**depth - 1)

    def bottleneck(self) -> nn.Module:
        return self.encoder.get_submodule("levels")[-1]  # type: ignore[index]
