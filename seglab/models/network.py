"""Base of all models: normalisation, any image size, a frozen encoder, and the parameter table."""

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglab.models.batch_norm import Together
from seglab.models.network_weights import load_weights

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of RGB in 0..1, as torchvision and smp trained their encoders with."""

FEWEST_VALUES = 4
"""Values of each channel in the deepest feature map, over the batch, that a training needs.

Batch norm cannot train on one value. On two, gradients reach 5e7 (U-Net with MobileNetV2, random weights) and 2e17
(DeepLabV3+), on three 3e3 and 9e7, on four 50 and 5e3.
"""


def check_at_least(name: str, value: int, minimum: int) -> None:
    """ValueError naming the constructor argument if `value` is below `minimum`."""
    if value < minimum:
        raise ValueError(f"{name}={value}: accepted are whole numbers from {minimum}")


class Network(nn.Module):
    """A net that takes images `float [B,C,H,W]`, H and W >= 1, and gives logits `[B,K,H,W]`.

    Images are RGB in 0..255, or after `take_rasters` of so many bands in their own units.

    `net` has the parts `encoder`, `decoder` and `segmentation_head`, and takes sizes that `divisor` divides. `weights`
    is the path of a file that holds all of its weights, or None.
    """

    float32_layout = torch.channels_last
    """Layout of float32 features in a CPU's memory, where it decides the speed. Else they are channels_last."""

    reach: int | None = None
    """How many pixels away an input pixel may change a logit, at most; None where that is the whole image."""

    scale: Tensor
    shift: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, net: nn.Module, divisor: int, freeze_encoder_epochs: int = 0, weights: str | None = None):
        super().__init__()
        check_at_least("freeze_encoder_epochs", freeze_encoder_epochs, 0)
        load_weights(net, weights)
        self.net = net
        self.layout = torch.channels_last
        self.divisor = divisor
        self.freeze_encoder_epochs = freeze_encoder_epochs
        mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("scale", 1 / std, persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)
        self.of_rasters = False
        self._batch_norms = Together(net)
        self.start_epoch(0)

    @property
    def bands(self) -> int:
        """Number of bands of its images."""
        return len(self.scale)

    def take_rasters(self, bands: int) -> Self:
        """Itself, for rasters of so many bands from now on: their values have a range, which is one of its weights.

        Band i is normalised like colour i % 3 of RGB, whose weights smp gives to it in a pretrained first convolution.
        """
        mean, std = (torch.tensor([v[i % 3] for i in range(bands)]) for v in (IMAGENET_MEAN, IMAGENET_STD))
        self.scale = (1 / std).view(bands, 1, 1)
        self.shift = (-mean / std).view(bands, 1, 1)
        self.register_buffer("low", torch.full((bands,), torch.nan))
        self.register_buffer("high", torch.full((bands,), torch.nan))
        self.of_rasters = True
        return self

    def set_value_range(self, low: Sequence[float] | np.ndarray, high: Sequence[float] | np.ndarray) -> None:
        """The values of each band that become 0 and 1 before they are normalised; those beyond are clamped to them."""
        self.low.copy_(torch.as_tensor(low))
        self.high.copy_(torch.as_tensor(high))

    def normalised(self, image: Tensor) -> Tensor:
        """The image `[B,C,H,W]` as the encoder takes it."""
        if self.of_rasters:
            low, high = (value.view(-1, 1, 1) for value in (self.low, self.high))
            width = torch.where(high > low, high - low, 1)  # of a band of one value, which becomes 0
            image = ((image - low) / width).clamp(0, 1)
        return torch.addcmul(self.shift, image, self.scale)

    @property
    def encoder(self) -> nn.Module:
        """The part that `start_epoch` freezes."""
        return self.net.get_submodule("encoder")

    def bottleneck(self) -> nn.Module | None:
        """The deepest part, which belongs to the encoder or the decoder; None where a model has none to tell apart."""
        return None

    def stages(self) -> dict[str, list[nn.Parameter]]:
        """Every parameter once, by `encoder`, `bottleneck`, `decoder` and `head`."""
        deepest = self.bottleneck()
        found = {"bottleneck": list(deepest.parameters()) if deepest else []}
        inside = {id(p) for p in found["bottleneck"]}
        for name in ("encoder", "decoder", "segmentation_head"):
            parameters = self.net.get_submodule(name).parameters()
            found[name.removeprefix("segmentation_")] = [p for p in parameters if id(p) not in inside]
        return {name: found[name] for name in ("encoder", "bottleneck", "decoder", "head")}

    def forward(self, image: Tensor) -> Tensor:
        """Logits `[B,K,H,W]` of `image`, without softmax."""
        height, width = image.shape[-2:]
        normalised = self.normalised(image).contiguous(memory_format=self.layout)
        return self.net(self._padded(normalised))[..., :height, :width]

    def lay_out(self, layout: torch.memory_format) -> Self:
        """Itself, with weights and features in `layout`."""
        self.layout = layout
        return self.to(memory_format=layout)

    def start_epoch(self, epoch: int) -> None:
        """Freeze the encoder (weights and running statistics) while `epoch < freeze_encoder_epochs`, else free it."""
        self._encoder_frozen = epoch < self.freeze_encoder_epochs
        self.encoder.requires_grad_(not self._encoder_frozen)
        self.train(self.training)

    def start_batch(self, index: int) -> None:
        """Running statistics become the mean over the epoch's batches so far, the newest never weighing under 0.1.

        torch's constant 0.1 keeps a third of the initial (or ImageNet's) statistics after ten steps. Short trainings
        then learn, but their maps do not show it: with equal weights, 0.40 -> 0.52 mIoU on the drawn scenes after ten
        epochs, 0.07 -> 0.20 on real tiles after two.
        """
        self._batch_norms.momentum.set(max(0.1, 1 / (index + 1)))
        self._batch_norms.count()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self._encoder_frozen:
            self.encoder.eval()  # else the running statistics would change while the weights are frozen
        self._batch_norms.look()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self._batch_norms.apply(fn)
        return self

    def _padded(self, image: Tensor) -> Tensor:
        """`image` with its last row and column repeated up to a multiple of `divisor`.

        A training on less than FEWEST_VALUES gets twice the divisor at least.
        """
        rows, columns = (-(-size // self.divisor) for size in image.shape[-2:])
        if self.training and len(image) * rows * columns < FEWEST_VALUES:
            rows, columns = max(2, rows), max(2, columns)
        bottom = rows * self.divisor - image.shape[-2]
        right = columns * self.divisor - image.shape[-1]
        return F.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image


def parameter_table(model: Network) -> dict[str, int]:
    """Number of parameters of each part: `encoder`, `decoder`, `head`; they add up to all of the model's."""
    parts = model.net.named_children()
    return {name.removeprefix("segmentation_"): sum(p.numel() for p in part.parameters()) for name, part in parts}
