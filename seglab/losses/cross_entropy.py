"""Softmax cross-entropy."""

from collections.abc import Sequence

from torch import Tensor, nn

from seglab.losses import class_weights as weights_of_classes
from seglab.losses.precision import full_precision, log_probabilities
from seglab.losses.reduction import weighted_mean


def cross_entropy(logits: Tensor, target: Tensor, class_weights: Sequence[float] | None = None) -> Tensor:
    """Mean over the pixels of w_t * -log p_t, divided by the sum of the w_t as in `torch.nn.CrossEntropyLoss`."""
    logits, target = full_precision(logits, target)
    weights = target * weights_of_classes.per_class("class_weights", class_weights, logits)
    return weighted_mean(-log_probabilities(logits), weights)


class CrossEntropy(nn.Module):
    """`cross_entropy` with one optional weight for each class; equals `torch.nn.CrossEntropyLoss(weight)`."""

    def __init__(self, class_weights: list[float] | None = None):
        super().__init__()
        self.class_weights = weights_of_classes.checked("class_weights", class_weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(logits, target, self.class_weights)
