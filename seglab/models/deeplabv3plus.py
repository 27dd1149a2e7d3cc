"""DeepLabV3+ (Chen et al. 2018, https://arxiv.org/abs/1802.02611) with a MobileNetV2 encoder, from smp."""

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.decoders.deeplabv3.decoder import ASPPPooling
from torch import Tensor, nn

from seglab.models.batch_norm import BatchNorm2d
from seglab.models.encoder_weights import ENCODER, load_encoder_weights
from seglab.models.network import Network, check_at_least
from seglab.models.network_weights import check_one_source
from seglab.models.rewrites import rewritten


class PoolingBatchNorm(BatchNorm2d):
    """Batch norm `[B,C,1,1]` that uses its running statistics where a training batch has one value per channel."""

    def forward(self, input: Tensor) -> Tensor:
        if input.numel() == input.shape[1]:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class Pooling(ASPPPooling):
    """smp's pooling branch; its one pixel fills the map in channels_last, for a single image too."""

    def forward(self, x: Tensor) -> Tensor:
        pixel = nn.Sequential.forward(self, x)
        return pixel.expand(*pixel.shape[:2], *x.shape[2:]).contiguous(memory_format=torch.channels_last)


class DeepLabV3Plus(Network):
    """DeepLabV3+ of output stride 16.

    `encoder_weights` is None, "imagenet" or the path of a file, `weights` None or the path of one.
    """

    def __init__(
        self,
        num_classes: int,
        encoder_weights: str | None = None,
        freeze_encoder_epochs: int = 0,
        atrous_rates: list[int] | None = None,
        decoder_channels: int = 256,
        weights: str | None = None,
        in_channels: int = 3,
    ):
        check_one_source(encoder_weights, weights)
        rates = [12, 24, 36] if atrous_rates is None else list(atrous_rates)
        if len(rates) != 3 or min(rates) < 1:
            raise ValueError(f"atrous_rates={rates}: accepted are three whole numbers from 1")
        check_at_least("num_classes", num_classes, 2)
        check_at_least("decoder_channels", decoder_channels, 1)
        net = smp.DeepLabV3Plus(
            ENCODER,
            encoder_weights=None,
            in_channels=in_channels,
            classes=num_classes,
            decoder_atrous_rates=rates,
            decoder_channels=decoder_channels,
        )
        for module in net.modules():
            if isinstance(module, ASPPPooling):
                module.__class__ = Pooling
                module[2] = PoolingBatchNorm(decoder_channels)
        load_encoder_weights(net.encoder, encoder_weights)
        super().__init__(rewritten(net), 16, freeze_encoder_epochs, weights)

    def bottleneck(self) -> nn.Module:
        return self.net.get_submodule("decoder.aspp")
