"""U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597) with a MobileNetV2 encoder, from smp."""

import segmentation_models_pytorch as smp
from torch import nn

from seglab.models.encoder_weights import ENCODER, load_encoder_weights
from seglab.models.network import Network, check_at_least
from seglab.models.network_weights import check_one_source
from seglab.models.rewrites import rewritten

ENCODER_REACH = sum(
    stride * convolutions for stride, convolutions in ((1, 1), (2, 2), (4, 2), (8, 3), (16, 7), (32, 3))
)
"""MobileNetV2's 3x3 convolutions by the pixels between two of their inputs; a strided one is counted before it."""

DECODER_REACH = sum(3 * step // 2 for step in (32, 16, 8, 4, 2)) + 1
"""Five times an upsampling, which adds half of the coarser pixel, and two 3x3 convolutions; and that of the head."""


class UNetMobileNetV2(Network):
    """U-Net over MobileNetV2.

    `encoder_weights` is None, "imagenet" or the path of a file, `weights` None or the path of one.
    """

    def __init__(
        self,
        num_classes: int,
        encoder_weights: str | None = None,
        freeze_encoder_epochs: int = 0,
        weights: str | None = None,
        in_channels: int = 3,
    ):
        check_one_source(encoder_weights, weights)
        check_at_least("num_classes", num_classes, 2)
        net = smp.Unet(ENCODER, encoder_weights=None, in_channels=in_channels, classes=num_classes)
        load_encoder_weights(net.encoder, encoder_weights)
        super().__init__(rewritten(net), divisor=32, freeze_encoder_epochs=freeze_encoder_epochs, weights=weights)
        self.reach = ENCODER_REACH + DECODER_REACH

    def bottleneck(self) -> nn.Module:
        return self.encoder.get_submodule("features")[14:]  # type: ignore[index]  # what smp calls stride 32
