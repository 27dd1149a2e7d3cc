"""Focal loss of each class against the rest, on a sigmoid for each class, as in torchvision and smp."""

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from seglab.labels import valid_pixels
from seglab.losses.focal import check_gamma, focusing
from seglab.losses.precision import full_precision
from seglab.losses.reduction import weighted_mean


def focal_sigmoid(logits: Tensor, target: Tensor, gamma: float = 2.0, alpha: float | None = None) -> Tensor:
    """Mean over pixels and classes of (1 - p_t)^gamma * -log p_t, where p_t is the probability of what is true.

    `alpha` weighs the class itself, 1 - alpha the rest (Lin et al. 2017, eq. 5); None weighs both by 1.
    """
    logits, target = full_precision(logits, target)
    cost = binary_cross_entropy_with_logits(logits, target, reduction="none")  # -log p_t
    balance = 1.0 if alpha is None else alpha * target + (1 - alpha) * (1 - target)
    return weighted_mean(balance * focusing(-cost, gamma) * cost, valid_pixels(target).expand_as(target))


class FocalSigmoid(nn.Module):
    """`focal_sigmoid` as a module.

    It equals smp's `FocalLoss("multiclass", alpha=alpha, gamma=gamma)` and the mean of torchvision's
    `sigmoid_focal_loss`, where alpha=-1 stands for None.
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = None):
        super().__init__()
        if alpha is not None and not 0 <= alpha <= 1:
            raise ValueError(f"alpha {alpha}: expected a number from 0 to 1, or null")
        self.gamma = check_gamma(gamma)
        self.alpha = alpha

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return focal_sigmoid(logits, target, self.gamma, self.alpha)
