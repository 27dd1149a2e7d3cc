"""A network and a split -> the counts of each image, from which all its scores follow."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seglab.data import SegmentationData
from seglab.data.files.pixels import Pixels
from seglab.data.files.rasters import Decoded
from seglab.data.kept.image_set import ImageSet
from seglab.maps.boundary import DISTANCES, boundary_counts, boundary_f, boundary_f_per_class
from seglab.maps.evidence import scored_batches
from seglab.maps.scoring import Scoring, confusion_each
from seglab.models.network import Network
from seglab.predict.tiles.scale import back
from seglab.predict.tiles.tiling import Tiling, tiled
from seglab.run.records import counts_head

Counted = tuple[str, np.ndarray, np.ndarray, Tensor]
"""Name, label and map `uint8 [H,W]`, and counts `int64 [K,K]` of one image."""


@dataclass
class Counts:
    """Names, scenes (empty where unknown) and counts of images: `[K,K]`, and `[K,2,1+D]` of boundaries."""

    classes: Sequence[str]
    names: list[str] = field(default_factory=list)
    scenes: list[str] = field(default_factory=list)
    confusion: list[np.ndarray] = field(default_factory=list)
    boundaries: list[np.ndarray] = field(default_factory=list)

    def add(self, image: Counted, scene: str) -> None:
        name, mask, prediction, counts = image
        self.names.append(name)
        self.scenes.append(scene)
        self.confusion.append(counts.cpu().numpy())
        self.boundaries.append(boundary_counts(mask, prediction, len(self.classes)))

    @property
    def total(self) -> dict[str, float]:
        """Every score of the sum over all images by key; NaN of what does not occur."""
        return self._numbers(range(len(self.names)))

    @property
    def pixels(self) -> np.ndarray:
        """Pixels of each true class `int64 [K]`."""
        return np.sum(self.confusion, 0).sum(1)

    def of_images(self) -> list[dict[str, Any]]:
        """A row for each image."""
        where = enumerate(zip(self.names, self.scenes, strict=True))
        return [{"name": name, "scene": scene, **self._row([i])} for i, (name, scene) in where]

    def of_scenes(self) -> list[dict[str, Any]]:
        """A row for each scene, of the sums over its images; an image of an unknown one is a scene of its own."""
        members: dict[str, list[int]] = {}
        for i, (name, scene) in enumerate(zip(self.names, self.scenes, strict=True)):
            members.setdefault(scene or name, []).append(i)
        return [{"scene": scene, "images": len(found), **self._row(found)} for scene, found in members.items()]

    def table(self) -> list[dict[str, Any]]:
        """A row for each image with its counts: what validation.csv holds."""
        rows = zip(self.names, self.scenes, self.confusion, strict=True)
        head = counts_head(self.classes)
        return [dict(zip(head, [name, scene, *counts.ravel().tolist()], strict=True)) for name, scene, counts in rows]

    def _row(self, images: Sequence[int]) -> dict[str, Any]:
        return {"pixels": sum(int(self.confusion[i].sum()) for i in images), **self._numbers(images)}

    def _numbers(self, images: Sequence[int]) -> dict[str, float]:
        total = torch.from_numpy(np.sum([self.confusion[i] for i in images], 0))
        return Scoring(self.classes).numbers(total) | self._boundary_numbers(images)

    def _boundary_numbers(self, images: Sequence[int]) -> dict[str, float]:
        counts = np.sum([self.boundaries[i] for i in images], 0)
        out: dict[str, float] = {}
        for distance, mean, each in zip(DISTANCES, boundary_f(counts), boundary_f_per_class(counts), strict=True):
            key = f"boundary_f_{distance}px"
            out |= {key: float(mean)} | {f"{key}/{c}": float(v) for c, v in zip(self.classes, each, strict=True)}
        return out


def whole_images(
    net: Network, data: SegmentationData, indices: list[int], precision: str, device: torch.device
) -> Iterator[Counted]:
    """The images of a split as validation computes them."""
    for batch, scored in scored_batches(net.to(device), data, precision, device, indices):
        yield from _images(batch, scored.map, scored.counts)


def tiled_images(
    net: Network, images: ImageSet, indices: Sequence[int], tiling: Tiling, num_classes: int
) -> Iterator[Counted]:
    """The images at these positions by tiles, as large images are mapped; `net` as `load_network` gives it."""
    for i in indices:
        values, mask = images[i]
        raster = Decoded(Path(images.names[i]), Pixels(values, None, 1))
        prediction = np.concatenate([strip.classes for strip in tiled([net], raster, tiling)])
        yield _counted(images.names[i], mask, prediction, num_classes)


def at_own_size(found: Iterable[Counted], label_of: Callable[[str], np.ndarray], num_classes: int) -> Iterator[Counted]:
    """The same images with their labels as the files hold them; a map is brought to their size as a GIS gets it."""
    for name, _, prediction, _ in found:
        mask = label_of(name)
        yield _counted(name, mask, back(prediction, *mask.shape), num_classes)


def _counted(name: str, mask: np.ndarray, prediction: np.ndarray, num_classes: int) -> Counted:
    found, label = (torch.from_numpy(array.astype(np.int64))[None] for array in (prediction, mask))
    return name, mask, prediction, confusion_each(found, label, num_classes)[0]


def _images(batch: Mapping[str, Any], maps: Tensor, counts: Tensor) -> Iterator[Counted]:
    masks = batch["mask"].cpu().numpy()
    yield from zip(batch["name"], masks, maps.byte().cpu().numpy(), counts, strict=True)
