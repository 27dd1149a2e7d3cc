"""What a finished cell leaves for reports, from one prediction pass: its maps and the counts of each image."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from seglab.data import SegmentationData
from seglab.data.module import Tiles
from seglab.labels import VOID
from seglab.machine.precision import autocast
from seglab.maps.scoring import class_map
from seglab.models.inference import for_inference
from seglab.models.network import Network
from seglab.run.records import CALIBRATION_BINS, PROBABILITY_BINS, Records


@dataclass
class Batch:
    """Predictions of a few validation images: `logits [B,K,H,W]`, `mask` and `map` `[B,H,W]`, and their names."""

    names: list[str]
    mask: Tensor
    logits: Tensor
    map: Tensor


def record(
    records: Records, net: Network, data: SegmentationData, precision: str, probabilities: bool, device: Any
) -> None:
    """Writes the records of the network as it is now; with `probabilities` also those that PR curves are drawn from."""
    scenes = {pair.name: pair.scene or "" for pair in data.pairs}
    num_classes = len(data.classes)
    rows: list[tuple[str, str, list[int]]] = []
    calibration = np.zeros((CALIBRATION_BINS, 3))
    histogram = np.zeros((num_classes, PROBABILITY_BINS, 2), np.int64)
    for batch in predictions(net, data, precision, device):
        counts = confusion_each(batch.map, batch.mask, num_classes).cpu().numpy()
        rows += [(n, scenes[n], c.ravel().tolist()) for n, c in zip(batch.names, counts, strict=True)]
        probability = batch.logits.float().softmax(1)
        calibration += confidence_histogram(probability, batch.map, batch.mask).cpu().numpy()
        if probabilities:
            histogram += probability_histogram(probability, batch.mask).cpu().numpy()
        for name, prediction in zip(batch.names, batch.map.byte().cpu().numpy(), strict=True):
            records.write_map(name, prediction)
    records.write_validation(list(data.classes), rows)
    records.write_calibration(calibration)
    if probabilities:
        records.write_probabilities(list(data.classes), histogram)


@torch.no_grad()
def predictions(net: Network, data: SegmentationData, precision: str, device: Any) -> Iterator[Batch]:
    """All validation images in order, batched and computed as validation does while training."""
    indices = data.indices[1]
    same = len({data.cache.sizes[i] for i in indices}) == 1
    # a generator of its own, since a loader draws a seed, which would move torch's
    loader = DataLoader(
        Tiles(data.cache, indices), data.batch_size if same else 1, generator=torch.Generator().manual_seed(0)
    )
    net = for_inference(net)
    for batch in loader:
        on_device = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
        ready = data.on_after_batch_transfer(on_device, 0)
        with autocast(precision, device):
            logits = net(ready["image"])
        yield Batch(batch["name"], ready["mask"], logits, class_map(logits))


def confusion_each(prediction: Tensor, mask: Tensor, num_classes: int) -> Tensor:
    """Counts `int64 [B,K,K]` (rows true, columns predicted) of index maps `[B,H,W]`, without VOID pixels."""
    b, k = len(mask), num_classes
    image = torch.arange(b, device=mask.device).view(b, 1, 1).expand(mask.shape)
    valid = mask != VOID
    cell = (image[valid] * k + mask[valid].long()) * k + prediction[valid].long()
    return torch.bincount(cell, minlength=b * k * k).view(b, k, k)


def confidence_histogram(probability: Tensor, prediction: Tensor, mask: Tensor) -> Tensor:
    """`float64 [bins,3]`: pixels, right ones, and the sum of their confidence, in equal bins of confidence."""
    valid = mask != VOID
    confidence = probability.gather(1, prediction[:, None])[:, 0][valid].double()
    right = (prediction == mask)[valid].double()
    facts = torch.stack([torch.ones_like(right), right, confidence], 1)
    bins = (confidence * CALIBRATION_BINS).long().clamp_max(CALIBRATION_BINS - 1)
    return torch.zeros(CALIBRATION_BINS, 3, dtype=torch.float64, device=mask.device).index_add_(0, bins, facts)


def probability_histogram(probability: Tensor, mask: Tensor) -> Tensor:
    """`int64 [K,bins,2]`: pixels of other classes and of this one in equal bins of each class's p, without VOID."""
    k = probability.shape[1]
    valid = mask != VOID
    p = probability.movedim(1, -1)[valid]  # [N,K]
    positive = mask[valid].long()[:, None] == torch.arange(k, device=mask.device)
    bins = (p * PROBABILITY_BINS).long().clamp_max(PROBABILITY_BINS - 1)
    cell = (torch.arange(k, device=mask.device) * PROBABILITY_BINS + bins) * 2 + positive
    return torch.bincount(cell.flatten(), minlength=2 * k * PROBABILITY_BINS).view(k, PROBABILITY_BINS, 2)
