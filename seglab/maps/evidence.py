"""The evidence of one scoring of the validation split: the counts of each image, and how sure the maps were."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from seglab.data import SegmentationData
from seglab.labels import VOID
from seglab.machine.precision import autocast
from seglab.maps.scoring import Scored, Scoring
from seglab.models.network import Network
from seglab.scores import CALIBRATION_BINS, PROBABILITY_BINS


class Evidence:
    """Sums over batches: `counts` `[K][K]` of each image by name, and histograms of probabilities.

    `calibration float64 [bins,3]`: pixels, right ones and summed confidence, by confidence. With `probabilities`
    also `histogram int64 [K,bins,2]`: pixels of other classes and of this one, by the probability of this one.
    """

    def __init__(self, num_classes: int, probabilities: bool):
        self.counts: dict[str, list[list[int]]] = {}
        self.calibration = torch.zeros(CALIBRATION_BINS, 3, dtype=torch.float64)
        self.histogram = torch.zeros(num_classes, PROBABILITY_BINS, 2, dtype=torch.long) if probabilities else None

    def add(self, names: Sequence[str], mask: Tensor, scored: Scored) -> None:
        """Adds the images of a batch, `mask uint8 [B,H,W]`."""
        self.counts |= dict(zip(names, scored.counts.tolist(), strict=True))
        probability = scored.logits.float().softmax(1)
        self.calibration += confidence_histogram(probability, scored.map, mask).cpu()
        if self.histogram is not None:
            self.histogram += probability_histogram(probability, mask).cpu()

    def join(self, other: "Evidence") -> None:
        """Adds what another process saw of the same split."""
        self.counts |= other.counts
        self.calibration += other.calibration
        if self.histogram is not None and other.histogram is not None:
            self.histogram += other.histogram


@torch.no_grad()
def scored_batches(
    net: Network,
    data: SegmentationData,
    precision: str,
    device: torch.device,
    indices: list[int] | None = None,
) -> Iterator[tuple[Mapping[str, Any], Scored]]:
    """All validation images in order, batched and computed as validation does while training; or those at `indices`."""
    scoring = Scoring(list(data.classes))
    scoring.begin(net)
    for batch in data.plain_loader(data.indices[1] if indices is None else indices):
        ready = data.on_after_batch_transfer({k: _moved(v, device) for k, v in batch.items()}, 0)
        with autocast(precision, device):
            scored = scoring.score(scoring.logits(ready["image"]), ready["mask"])
        yield ready, scored


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def confidence_histogram(probability: Tensor, prediction: Tensor, mask: Tensor) -> Tensor:
    """`float64 [bins,3]`: pixels, right ones, and the sum of their confidence, in equal bins of confidence."""
    valid = mask != VOID
    confidence = probability.gather(1, prediction[:, None])[:, 0][valid].double()
    right = (prediction == mask)[valid].double()
    facts = torch.stack([torch.ones_like(right), right, confidence], 1)
    bins = (confidence * CALIBRATION_BINS).long().clamp(0, CALIBRATION_BINS - 1)  # NaN is in the first
    return torch.zeros(CALIBRATION_BINS, 3, dtype=torch.float64, device=mask.device).index_add_(0, bins, facts)


def probability_histogram(probability: Tensor, mask: Tensor) -> Tensor:
    """`int64 [K,bins,2]`: pixels of other classes and of this one in equal bins of each class's p, without VOID."""
    k = probability.shape[1]
    valid = mask != VOID
    p = probability.movedim(1, -1)[valid]  # [N,K]
    positive = mask[valid].long()[:, None] == torch.arange(k, device=mask.device)
    bins = (p * PROBABILITY_BINS).long().clamp(0, PROBABILITY_BINS - 1)
    cell = (torch.arange(k, device=mask.device) * PROBABILITY_BINS + bins) * 2 + positive
    return torch.bincount(cell.flatten(), minlength=2 * k * PROBABILITY_BINS).view(k, PROBABILITY_BINS, 2)
