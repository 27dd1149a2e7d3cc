"""Lovász-Softmax: the convex surrogate of the Jaccard loss (Berman et al. 2018), by counting instead of sorting."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from seglab.labels import occurrences, valid_pixels
from seglab.losses.lovasz_sorted import increments_by_sorting
from seglab.losses.precision import full_precision
from seglab.losses.reduction import mean_of_groups

EQUAL_BINS = 8192
"""Bins of equal width in 0..1: they tell large errors apart."""

SHIFT = 16
"""Bits of a float32 left out of the bin's number: 2^7 bins remain for each halving of the error, down to 1e-38."""

BINS = (127 << 23 >> SHIFT) + EQUAL_BINS + 1  # 127 << 23 are the bits of 1.0
"""On 4 x 224 x 224 pixels, right by margins of 0 to 80 in the logits, the loss differs by less than 1e-6 of itself."""

FEW = 8192
"""Number of pixels up to which sorting is exact and as fast."""


def increments(error: Tensor, truth: Tensor) -> Tensor:
    """Increase of the Jaccard loss at each pixel when pixels turn wrong from the largest error down, `[...,P]`.

    `error [...,P]` in 0..1 and boolean `truth [...,P]`; VOID pixels have the error 0 and no truth.
    """
    return (increments_by_sorting if error.shape[-1] <= FEW else increments_by_counting)(error, truth)


def increments_by_counting(error: Tensor, truth: Tensor) -> Tensor:
    """Increments of errors put into bins: the pixels of a bin turn wrong together and share its increment.

    Foreground and background pixels of a bin share in proportion to their slopes of the Jaccard loss in its middle.
    """
    groups = error.shape[:-1].numel()
    first = torch.arange(0, 2 * BINS * groups, 2 * BINS, dtype=torch.int32, device=error.device)
    index = bins(error).add_(truth, alpha=BINS).add_(first.view(*error.shape[:-1], 1)).flatten()
    counts = occurrences(index, 2 * BINS * groups).view(groups, 2, BINS)
    return _increments_of_bins(counts.double()).to(error.dtype).flatten().index_select(0, index).view_as(error)


def bins(error: Tensor) -> Tensor:
    """Number of the bin of each error in 0..1, `int32`, the larger the larger the error.

    It is the sum of two numbers that grow with the error: the leading bits of the float32, whose steps are a fixed
    share of the error, and the error in equal steps. So 1e-8 and 1.02e-8 have different bins, and 0.75 and 0.7502 too.
    """
    error = error.float()
    number = error.view(torch.int32).bitwise_right_shift(SHIFT).add_((error * EQUAL_BINS).to(torch.int32))
    return number.clamp_(0, BINS - 1)  # NaN too gets a number: an index out of range would stop a GPU


def _increments_of_bins(counts: Tensor) -> Tensor:
    """Increment `[G,2,BINS]` of a background and of a foreground pixel of each bin, by the numbers of such pixels.

    A bin has b background and f foreground pixels. In its middle r foreground pixels are still right, and the union
    has u pixels. Over the bin the Jaccard loss rises from 1 - (r + f/2) / (u - b/2) to 1 - (r - f/2) / (u + b/2). That
    is (b r + f u) / (u² - b²/4): r / (u² - b²/4) for a background pixel and u / (u² - b²/4) for a foreground pixel.
    """
    below = counts.cumsum(-1)
    total = below[..., -1].sum(-1)  # [G]
    middle = below.sub_(counts, alpha=0.5)
    right = middle[:, 1]
    union = total[:, None] - middle[:, 0]
    background = counts[:, 0]
    divisor = torch.addcmul(union * union, background, background, value=-0.25).clamp_(min=1)  # 0 for an absent class
    return torch.stack([right / divisor, union / divisor], 1)


def errors(logits: Tensor, target: Tensor) -> Tensor:
    """1 - p of the true class and p of the others, `[B,K,H,W]`; 0 with zero gradient at VOID pixels.

    1 - p is the sum of the other probabilities: float32 keeps 3 digits of 1 - p at a margin of 9, and none at 17.
    """
    others = logits.softmax(1) * (valid_pixels(target) - target)
    return torch.addcmul(others, target, others.sum(1, keepdim=True))


def lovasz_softmax(
    logits: Tensor,
    target: Tensor,
    per_image: bool = False,
    increments: Callable[[Tensor, Tensor], Tensor] = increments,
) -> Tensor:
    """Mean over the classes in the target of the Lovász extension of Jaccard.

    `per_image` is the mean over the images, each over its own classes; else the batch is one image.
    """
    logits, target = full_precision(logits, target)
    error = _pixels_of_groups(errors(logits, target), per_image)
    truth = _pixels_of_groups(target > 0, per_image)
    with torch.no_grad():
        increment = increments(error, truth)
    return mean_of_groups((error * increment).sum(-1), truth.any(-1))


def _pixels_of_groups(x: Tensor, per_image: bool) -> Tensor:
    """`x [B,K,H,W]` as `[B,K,H*W]`, or as `[1,K,B*H*W]` where all images are one."""
    return x.flatten(2) if per_image else x.transpose(0, 1).flatten(1)[None]


class Lovasz(nn.Module):
    """`lovasz_softmax` as a module.

    It equals smp's `LovaszLoss("multiclass", per_image=per_image)` and the authors' own `lovasz_softmax` with
    classes="present". kornia's counts absent classes too, image by image.
    """

    def __init__(self, per_image: bool = False):
        super().__init__()
        self.per_image = per_image

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return lovasz_softmax(logits, target, self.per_image)


class LovaszSorted(Lovasz):
    """`Lovasz` by sorting, exact and several times slower: the measure of `Lovasz`."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return lovasz_softmax(logits, target, self.per_image, increments_by_sorting)
