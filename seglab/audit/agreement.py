"""Agreement of two labellings of the same ground: a score that no map can be expected to beat."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from seglab.audit.overlaps import SAME_PIXELS, Overlap, shared
from seglab.scores import accuracy, confusion, iou_per_class, miou


def confusions(
    found: Sequence[Overlap], mask: Callable[[int], np.ndarray | None], num_classes: int
) -> list[np.ndarray]:
    """The confusion of the two labels of each overlap; zeros where one has no usable label."""
    out = []
    for o in found:
        a, b = mask(o.a), mask(o.b)
        empty = np.zeros((num_classes, num_classes), np.int64)
        out.append(empty if a is None or b is None else confusion(*shared(a, b, o.dx, o.dy), num_classes))
    return out


def agreement(cm: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """`pixels`, `agreement` (share of equal pixels), `iou` of each class (null where neither has it), `miou`."""
    known = {"agreement": accuracy(cm), "miou": miou(cm)}
    return {
        "pixels": int(cm.sum()),
        **{name: None if np.isnan(value) else float(value) for name, value in known.items()},
        "iou": {c: None if v != v else v for c, v in zip(classes, iou_per_class(cm).tolist(), strict=True)},
    }


def ceiling(
    found: Sequence[Overlap], cms: Sequence[np.ndarray], names: Sequence[str], classes: Mapping[str, str]
) -> dict[str, Any]:
    """Content of ceiling.json: agreement over all copies of ground that were labelled twice, by place, and by pair.

    Two pictures of one place may differ in truth, and labels that agree in every pixel are one labelling, cut or
    copied: neither counts, and `counted` of their pair is false.
    """
    counted = [o.kind == SAME_PIXELS and np.trace(cm) < cm.sum() for o, cm in zip(found, cms, strict=True)]
    taken = [(o, cm) for o, cm, counts in zip(found, cms, counted, strict=True) if counts]
    total = sum((cm for _, cm in taken), np.zeros((len(classes), len(classes)), np.int64))
    return {
        **agreement(total, list(classes)),
        "places": [
            {
                "images": [names[i] for i in sorted(place)],
                **agreement(sum((cm for o, cm in taken if o.a in place), np.zeros_like(total)), list(classes)),
            }
            for place in _places([o for o, _ in taken])
        ],
        "pairs": [
            {
                **{"a": names[o.a], "b": names[o.b], "kind": o.kind, "dx": o.dx, "dy": o.dy},
                **{"width": o.width, "height": o.height, "correlation": o.correlation, "counted": bool(counts)},
                **agreement(cm, list(classes)),
            }
            for o, cm, counts in zip(found, cms, counted, strict=True)
        ],
    }


def _places(found: Sequence[Overlap]) -> list[set[int]]:
    """Images that hang together by overlaps."""
    places: list[set[int]] = []
    for o in found:
        joined = {o.a, o.b}.union(*(p for p in places if p & {o.a, o.b}))
        places = [p for p in places if not p & {o.a, o.b}] + [joined]
    return sorted(places, key=min)
