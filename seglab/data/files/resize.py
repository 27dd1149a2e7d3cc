"""Images and labels at another size."""

import cv2
import numpy as np

TOGETHER = 4
"""Bands that OpenCV resizes by area at once, at most."""


def resized(image: np.ndarray, mask: np.ndarray, size: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray]:
    """Image by area (anti-aliased), label by the nearest pixel centre, so that both keep their place."""
    if size is None or mask.shape == size:
        return image, mask
    h, w = size
    shrinks = h <= mask.shape[0] and w <= mask.shape[1]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    bands = image.shape[2]
    together = bands if bands <= TOGETHER else 1
    parts = [cv2.resize(image[..., i : i + together], (w, h), interpolation=way) for i in range(0, bands, together)]
    image = np.concatenate([part.reshape(h, w, together) for part in parts], 2) if len(parts) > 1 else parts[0]
    return image.reshape(h, w, bands), cv2.resize(mask, (w, h), interpolation=cv2.INTER_NEAREST_EXACT)
