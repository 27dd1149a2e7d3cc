"""Boundary loss by distance maps (Kervadec et al. 2019, "surface loss")."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from seglab.labels import valid_pixels
from seglab.losses.precision import full_precision
from seglab.losses.reduction import weighted_mean


def signed_distance(region: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Distance in pixels `float [H,W]`: outside the region to its nearest pixel; inside 1 - the distance to the rest.

    0 everywhere where one of the two boolean masks `[H,W]` is empty: there is no boundary.
    """
    if not region.any() or not rest.any():
        return np.zeros(region.shape)
    return np.where(region, 1 - distance_transform_edt(~rest), distance_transform_edt(~region))


def distance_maps(target: Tensor, classes: Sequence[int]) -> Tensor:
    """Signed distances `float64 [B,len(classes),H,W]` on the CPU; VOID belongs to no side of a boundary."""
    images = (target > 0).cpu().numpy()
    maps = np.zeros((len(images), len(classes), *images.shape[2:]))
    for b, image in enumerate(images):
        for i, k in enumerate(classes):
            maps[b, i] = signed_distance(image[k], image.any(0) & ~image[k])
    return torch.from_numpy(maps)


def boundary_distance(logits: Tensor, target: Tensor, classes: Sequence[int] | None = None) -> Tensor:
    """Mean over pixels and `classes` (None: all) of p * distance; it can be negative.

    The maps are made on the CPU at each call, about 0.15 s for 8 images of 224² with 4 classes. Threads do not help:
    scipy 1.17 holds the interpreter lock.
    """
    logits, target = full_precision(logits, target)
    num_classes = logits.shape[1]
    chosen = list(range(num_classes) if classes is None else classes)
    if max(chosen) >= num_classes:
        raise ValueError(f"classes {chosen}: expected indices 0..{num_classes - 1}, or null for all")
    distance = distance_maps(target, chosen).to(logits)
    weights = valid_pixels(target).expand_as(distance)
    return weighted_mean(logits.softmax(1)[:, chosen] * distance, weights)


class BoundaryDistance(nn.Module):
    """`boundary_distance` as a module; leave a background class out of `classes`, as its authors do.

    It equals their `SurfaceLoss` with idc=classes. Only for a class that fills an image theirs measures to a point that
    is no pixel, and ours is 0.
    """

    def __init__(self, classes: list[int] | None = None):
        super().__init__()
        if classes is not None and (not classes or min(classes) < 0 or len(set(classes)) < len(classes)):
            raise ValueError(f"classes {list(classes)}: expected different class indices >= 0, or null for all")
        self.classes = None if classes is None else list(classes)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return boundary_distance(logits, target, self.classes)
