"""Binary cross-entropy of each class against the rest, on a sigmoid for each class."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from seglab.labels import valid_pixels
from seglab.losses import class_weights as weights_of_classes
from seglab.losses.precision import full_precision
from seglab.losses.reduction import weighted_mean


def binary_cross_entropy(logits: Tensor, target: Tensor, class_weights: Sequence[float] | None = None) -> Tensor:
    """Mean over pixels and classes; with weights, the weighted mean over the classes."""
    logits, target = full_precision(logits, target)
    weights = valid_pixels(target) * weights_of_classes.per_class("class_weights", class_weights, logits)
    return weighted_mean(binary_cross_entropy_with_logits(logits, target, reduction="none"), weights)


class BinaryCrossEntropy(nn.Module):
    """`binary_cross_entropy` with one optional weight for each class.

    Without weights it equals `torch.nn.BCEWithLogitsLoss()`.
    """

    def __init__(self, class_weights: list[float] | None = None):
        super().__init__()
        self.class_weights = weights_of_classes.checked("class_weights", class_weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return binary_cross_entropy(logits, target, self.class_weights)
