"""The original system's focal loss, wrong on purpose: to show what it does, not to train with."""

from torch import Tensor, nn

from seglab.losses.precision import full_precision
from seglab.losses.reduction import weighted_mean


def original_focal(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over images, columns and classes of the largest -t (1 - q)^2 log(q) / 4 over the rows, with q = p + 1e-7.

    So a column of the image gives each class a gradient in one pixel, the one that fits its label worst.
    """
    logits, target = full_precision(logits, target)
    q = logits.softmax(1) + 1e-7
    largest = (-0.25 * target * (1 - q) ** 2 * q.log()).amax(2)  # [B,K,W]
    return weighted_mean(largest, largest.new_ones(largest.shape))


class OriginalFocal(nn.Module):
    """`original_focal` as a module; what was meant is `Focal(gamma=2.0, alpha=[0.25, ...])`."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return original_focal(logits, target)
