"""Problems of files that can all be read: sizes, labels and transforms that no training can use."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from seglab.data.batches.windows import too_small
from seglab.data.presence import empty_labels

if TYPE_CHECKING:
    from seglab.data.module import SegmentationData


def problems(data: "SegmentationData") -> list[str]:
    """Every problem of data whose files are decoded, as a line each."""
    counts = data.class_counts
    pixels = sum(math.prod(data.cache.whole.sizes[i]) for side in data.pair_sides[:2] for i in side)
    void = pixels - sum(int(of_classes.sum()) for of_classes in counts.values())
    found = size_problems(data, {data.cache.whole.sizes[i] for i in data.pair_sides[0]})
    found += label_problems(data, counts, void)
    return found or data.augmentation.faults(data.cache[data.indices[0][0]][0], data.batch_size)


def size_problems(data: "SegmentationData", sizes: set[tuple[int, int]]) -> list[str]:
    """A problem where no batch can hold training images of these sizes."""
    if data.windows and data.crop:
        return too_small({data.size} if data.size else sizes, data.crop)
    if len(sizes) < 2 or data.size or data.crop or data.batch_size == 1:
        return []
    return [f"images of {len(sizes)} sizes can't be batched: set data.size or data.crop"]


def label_problems(data: "SegmentationData", counts: Mapping[str, np.ndarray], void: int) -> list[str]:
    """Problems of labels that hold nothing to learn or to score, from their pixels by class and void ones."""
    return empty_labels(counts, void, list(data.classes), ids=getattr(data.reader, "palette", None) is None)
