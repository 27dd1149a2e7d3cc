"""Slow versions in NumPy, of losses and of statistics; `logits` and one-hot `target` [B,K,H,W], VOID all zeros.

They follow the definitions with loops over pixels, sets and pairs of points, and share no formula with seglab.
"""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

Array = np.ndarray


def softmax(logits: Array) -> Array:
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def sigmoid(logits: Array) -> Array:
    return 1 / (1 + np.exp(-logits))


def has_class(target: Array) -> Array:
    """Boolean [B,H,W], false where a pixel is VOID."""
    return target.sum(1) > 0


def pixels(probabilities: Array, target: Array) -> Iterator[tuple[Array, int]]:
    """The probabilities [K] and the class of each pixel that has one."""
    for b, y, x in np.ndindex(*target[:, 0].shape):
        if target[b, :, y, x].any():
            yield probabilities[b, :, y, x], int(target[b, :, y, x].argmax())


def cross_entropy(logits: Array, target: Array, class_weights: list[float] | None = None) -> float:
    weights = class_weights or [1.0] * target.shape[1]
    terms = [(weights[k], -np.log(p[k])) for p, k in pixels(softmax(logits), target)]
    return sum(w * cost for w, cost in terms) / sum(w for w, _ in terms)


def binary_cross_entropy(logits: Array, target: Array, class_weights: list[float] | None = None) -> float:
    num_classes = target.shape[1]
    weights = class_weights or [1.0] * num_classes
    terms = [
        (weights[c], -np.log(p[c] if c == k else 1 - p[c]))
        for p, k in pixels(sigmoid(logits), target)
        for c in range(num_classes)
    ]
    return sum(w * cost for w, cost in terms) / sum(w for w, _ in terms)


def focal(logits: Array, target: Array, gamma: float = 2.0, alpha: list[float] | None = None) -> float:
    weights = alpha or [1.0] * target.shape[1]
    return float(
        np.mean([-weights[k] * (1 - p[k]) ** gamma * np.log(p[k]) for p, k in pixels(softmax(logits), target)])
    )


def focal_sigmoid(logits: Array, target: Array, gamma: float = 2.0, alpha: float | None = None) -> float:
    terms = []
    for p, k in pixels(sigmoid(logits), target):
        for c, p_c in enumerate(p):
            p_true = p_c if c == k else 1 - p_c
            balance = 1.0 if alpha is None else alpha if c == k else 1 - alpha
            terms.append(-balance * (1 - p_true) ** gamma * np.log(p_true))
    return float(np.mean(terms))


def original_focal(logits: Array, target: Array) -> float:
    q = softmax(logits) + 1e-7
    rows = range(target.shape[2])
    largest = [
        max(-0.25 * target[b, k, y, x] * (1 - q[b, k, y, x]) ** 2 * np.log(q[b, k, y, x]) for y in rows)
        for b, k, x in np.ndindex(*target[:, :, 0].shape)
    ]
    return float(np.mean(largest))


def mean_of_images(target: Array, per_image: bool, per_class: bool, value: Callable[..., float | None]) -> float:
    """Mean over the images of the mean over their classes of `value(b, k)`; None says that there is nothing to count.

    `b` and `k` index [B,K,H,W]: without `per_image` all images are one, without `per_class` all classes.
    """
    means = []
    for b in range(len(target)) if per_image else [slice(None)]:
        classes = range(target.shape[1]) if per_class else [slice(None)]
        values = [v for v in (value(b, k) for k in classes) if v is not None]
        if values:
            means.append(sum(values) / len(values))
    return sum(means) / len(means)


def overlap(
    logits: Array,
    target: Array,
    index: Callable[[float, float, float], float],
    squared: bool = False,
    gamma: float = 1.0,
    per_image: bool = False,
    per_class: bool = True,
) -> float:
    """Mean of (1 - index(sum of p t, sum of p or p², sum of t)) ** gamma over the groups in the target."""
    p = softmax(logits) * target.sum(1, keepdims=True)

    def value(*group) -> float | None:
        if not target[group].any():
            return None
        size = (p[group] ** (2 if squared else 1)).sum()
        return (1 - index((p[group] * target[group]).sum(), size, target[group].sum())) ** gamma

    return mean_of_images(target, per_image, per_class, value)


def dice(logits: Array, target: Array, squared: bool = False, **reduction: bool) -> float:
    return overlap(logits, target, lambda both, p, t: 2 * both / (p + t), squared, **reduction)


def jaccard(logits: Array, target: Array, squared: bool = False, **reduction: bool) -> float:
    return overlap(logits, target, lambda both, p, t: both / (p + t - both), squared, **reduction)


def tversky(logits: Array, target: Array, alpha: float, beta: float, gamma: float = 1.0, **reduction: bool) -> float:
    def index(both: float, p: float, t: float) -> float:
        return both / (both + alpha * (p - both) + beta * (t - both))

    return overlap(logits, target, index, False, gamma, **reduction)


def jaccard_of_sets(wrong: set[int], truth: set[int]) -> float:
    """Jaccard loss of the map that errs exactly on the pixels `wrong`."""
    predicted = truth ^ wrong
    return 1 - len(predicted & truth) / len(predicted | truth)


def lovasz(logits: Array, target: Array, per_image: bool = False) -> float:
    """Lovász extension as Berman et al. define it: by the Jaccard losses of a growing set of wrong pixels."""
    p = softmax(logits)
    valid = has_class(target)

    def value(b, k) -> float | None:
        truth_map = target[b, k][valid[b]]
        if not truth_map.any():
            return None
        truth = set(np.flatnonzero(truth_map).tolist())
        error = np.abs(truth_map - p[b, k][valid[b]])
        order = np.argsort(-error).tolist()
        return sum(
            error[i] * (jaccard_of_sets(set(order[: n + 1]), truth) - jaccard_of_sets(set(order[:n]), truth))
            for n, i in enumerate(order)
        )

    return mean_of_images(target, per_image, True, value)


def lovasz_of_errors(error: Array, truth: Array) -> float:
    """Lovász extension of the Jaccard loss for one class, by the Jaccard losses of the k largest errors, for each k."""
    order = np.argsort(-error, kind="stable")
    right = truth.sum() - np.cumsum(truth[order])
    union = truth.sum() + np.cumsum(~truth[order])
    return float(np.sum(error[order].astype(np.float64) * np.diff(1 - right / union, prepend=0)))


def window(valid: Array, b: int, y: int, x: int, width: int) -> list[tuple[int, int]]:
    """The pixels with a class in the `width` x `width` window around pixel y, x of image b."""
    n = width // 2
    rows = range(max(y - n, 0), min(y + n + 1, valid.shape[1]))
    columns = range(max(x - n, 0), min(x + n + 1, valid.shape[2]))
    return [(i, j) for i in rows for j in columns if valid[b, i, j]]


def local(x: Array, valid: Array, width: int, of: Callable[[Array, list[Array]], Array]) -> Array:
    """`of`(the value, the values in its window) at each pixel with a class, 0 elsewhere."""
    result = np.zeros_like(x)
    for b, k, i, j in np.ndindex(*x.shape):
        if valid[b, i, j]:
            result[b, k, i, j] = of(x[b, k, i, j], [x[b, k, u, v] for u, v in window(valid, b, i, j, width)])
    return result


def boundary(
    logits: Array,
    target: Array,
    theta0: int = 3,
    theta: int = 5,
    both_sides: bool = False,
    per_image: bool = False,
    per_class: bool = True,
) -> float:
    """1 - F1 of precision and recall of the edges, where an edge is the drop to the smallest value around."""
    valid = has_class(target)

    def drop(x: Array, width: int) -> Array:
        return local(x, valid, width, lambda value, around: value - min(around))

    def tolerance(x: Array) -> Array:
        return local(drop(x, theta0), valid, theta, lambda _, around: max(around)) if both_sides else drop(x, theta)

    p = softmax(logits)
    edge_p = drop(p, theta0)
    edge_t = drop(target, theta0)
    near_p = tolerance(p)
    near_t = tolerance(target)

    def value(*g) -> float | None:
        if not edge_t[g].any():
            return None
        precision = (edge_p[g] * near_t[g]).sum() / edge_p[g].sum()
        recall = (near_p[g] * edge_t[g]).sum() / edge_t[g].sum()
        return 1 - 2 / (1 / precision + 1 / recall)

    return mean_of_images(target, per_image, per_class, value)


def distance_maps(target: Array) -> Array:
    """Signed distances [B,K,H,W] to the boundary, by looking at each pair of pixels."""
    result = np.zeros(target.shape)
    for b, k in np.ndindex(*target.shape[:2]):
        region = np.argwhere(target[b, k] > 0)
        rest = np.argwhere((target[b, k] == 0) & target[b].any(0))
        if len(region) and len(rest):
            for y, x in np.ndindex(*target.shape[2:]):
                inside = target[b, k, y, x] > 0
                nearest = np.hypot(*((rest if inside else region) - (y, x)).T).min()
                result[b, k, y, x] = 1 - nearest if inside else nearest
    return result


def boundary_distance(logits: Array, target: Array, classes: list[int] | None = None) -> float:
    p = softmax(logits)
    distance = distance_maps(target)
    valid = has_class(target)
    chosen = classes or range(target.shape[1])
    return float(np.mean([(p[:, k] * distance[:, k])[valid] for k in chosen]))


def bootstrap_differences(a: Array, b: Array) -> list[float]:
    """mIoU of one cell minus the other's on every way to draw as many units as there are, class by class."""

    def score(counts: Array, chosen: tuple[int, ...]) -> float:
        values = []
        for k in range(counts.shape[1]):
            hit = sum(int(counts[u, k, k]) for u in chosen)
            row = sum(int(counts[u, k, j]) for u in chosen for j in range(counts.shape[2]))
            column = sum(int(counts[u, i, k]) for u in chosen for i in range(counts.shape[1]))
            if row + column - hit:
                values.append(hit / (row + column - hit))
        return float(np.mean(values))

    ways = itertools.product(range(len(a)), repeat=len(a))
    return [score(a, way) - score(b, way) for way in ways]


def t_two_sided(t: float, freedom: int) -> float:
    """P(|T| > t) of Student's t by adding up its density."""
    x = np.linspace(-t, t, 200001)
    density = (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    constant = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    return float(1 - constant * np.trapezoid(density, x))
