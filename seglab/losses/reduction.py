"""From pixels to one number: sums of groups of pixels, and the means that the losses end in."""

from torch import Tensor


def grouped_sum(x: Tensor, per_image: bool, per_class: bool) -> Tensor:
    """Sum of `x [B,K,H,W]` over pixels, and over images and classes unless they are kept apart: `[B or 1, K or 1]`."""
    total = x.sum((2, 3))
    if not per_image:
        total = total.sum(0, keepdim=True)
    return total if per_class else total.sum(1, keepdim=True)


def mean_of_groups(values: Tensor, present: Tensor) -> Tensor:
    """Mean over the images of the mean over each one's classes, of finite `values [B or 1, K or 1]`.

    Only where the boolean `present` of the same shape is true: an absent class is left out, and so is an image without
    any class. 0 with zero gradient where nothing is present.
    """
    classes = present.to(values.dtype).sum(1, keepdim=True)
    images = (classes > 0).to(values.dtype).sum()
    weights = present / classes.where(classes > 0, 1) / images.where(images > 0, 1)
    return (values * weights).sum()


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Scalar mean of finite `values` with `weights` of the same shape; 0 with zero gradient where all weights are 0."""
    total = weights.sum()
    # Divided before the sum, so that a sum of huge but finite values cannot overflow.
    return (values * (weights / total.where(total > 0, 1))).sum()
