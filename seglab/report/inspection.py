"""Finished cells beside their validation images, for notebooks: maps, errors, confidence, and the worst images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seglab.predict.images import Look, images_of
from seglab.report.study import Entry, Table, read_study
from seglab.run.records import Validation, mapped
from seglab.scores import iou_per_class, miou

if TYPE_CHECKING:
    from seglab.models.network import Network


def find_study(path: Path | str) -> Path:
    """A study's folder, as seen from here, or from `notebooks/` where this is the folder above it.

    Raises FileNotFoundError.
    """
    asked = Path(path).expanduser()
    above = Path(*(part for part in asked.parts if part != ".."))
    for folder in (asked, above):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"{asked}: no such folder; accepted is a study such as the one that `make demo` leaves")


def find_cells(study: Path, parts: Sequence[str] | None = None) -> list[Entry]:
    """The finished cells whose folder names hold each of `parts`; None: the best one, and the best of another loss.

    Raises ValueError unless each part is in exactly one name.
    """
    done = sorted((e for table in read_study(study) for e in table.done), key=lambda e: -e.miou)
    if not done:
        raise ValueError(f"{study}: no finished cell in it")
    if parts is None:
        others = [e for e in done if e.cell.loss != done[0].cell.loss] or done[1:]
        return [done[0], *others[:1]]
    return [_only(part, done) for part in parts]


def _only(part: str, done: Sequence[Entry]) -> Entry:
    found = [e for e in done if part in e.cell.folder]
    if len(found) != 1:
        names = ", ".join(e.cell.folder for e in done)
        raise ValueError(f"{part!r} is in {len(found)} names of cells; accepted is a part of one of {names}")
    return found[0]


@dataclass(frozen=True)
class Sample:
    """An image `[H,W,C]`, its label and a cell's map `uint8 [H,W]`, and the map's probability `float32 [H,W]`."""

    name: str
    image: np.ndarray
    mask: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray


class Inspection:
    """A finished cell on each validation image. Raises ValueError for a cell that kept no evidence.

    `root`: the folder of the data; else its images come from the decoded copy that training made.
    """

    def __init__(self, entry: Entry, root: Path | None = None):
        if entry.validation is None:
            raise ValueError("; ".join(entry.problems) or f"{entry.cell.folder}: {entry.cell.status}, so has no maps")
        self.entry, self.run, self.root = entry, entry.run, root
        self.validation: Validation = entry.validation

    @property
    def name(self) -> str:
        """Loss, epochs and seed."""
        return self.entry.name

    @property
    def classes(self) -> Mapping[str, str]:
        """Class names and their colours."""
        return self.entry.classes

    @cached_property
    def network(self) -> "Network":
        """In eval mode."""
        from seglab.predict.predict import load_network

        return load_network(self.run)

    @cached_property
    def images(self) -> Look:
        """Lookup of the images that the cell was trained on, by name. Raises ValueError where it is not at hand."""
        try:
            return images_of(self.run, self.entry.config, self.root)
        except ValueError as e:
            raise ValueError(f"the data of {self.run.folder} is not at hand ({e})") from e

    @cached_property
    def _mapped(self) -> frozenset[str]:
        """Names of the images whose maps the cell keeps."""
        config = self.entry.config
        return frozenset(mapped(self.validation.names, config.maps, config.pictures))

    def iou(self) -> np.ndarray:
        """`float64 [N,K]`: of each validation image and class, NaN where the class is neither there nor predicted."""
        return iou_per_class(self.validation.confusion)

    def worst(self) -> list[str]:
        """Names of all validation images, the lowest mIoU first; last those without any label."""
        order = np.argsort(np.nan_to_num(miou(self.validation.confusion), nan=2), kind="stable")
        return [self.validation.names[i] for i in order]

    def sample(self, name: str) -> Sample:
        """One validation image. Raises ValueError where it, or its map, is not what the run saw."""
        from seglab.maps.scoring import probabilities

        if name not in self.validation.names:
            raise ValueError(f"{name!r} is no validation image; accepted are {', '.join(self.validation.names)}")
        prediction = self.run.records.map(name)
        found = self.images(name)
        if found is None or (prediction is None and name in self._mapped):
            raise ValueError(f"{name}: its {'map' if prediction is None else 'image'} is gone from {self.run.folder}")
        image, mask = found
        if prediction is not None and prediction.shape != mask.shape:
            raise ValueError(f"{name}: the image is {mask.shape}, its map {prediction.shape}: the data changed since")
        each = probabilities(self.network, image)
        if prediction is None:  # not kept, since `maps` are fewer than the images
            prediction = each.argmax(0).astype(np.uint8)
        confidence = np.take_along_axis(each, prediction[None].astype(np.int64), 0)[0]
        return Sample(name, image, mask, prediction, confidence)


def most_different(a: Inspection, b: Inspection) -> list[str]:
    """Names of the images that both validated, the one on which their mIoU differs most first."""
    scores = [dict(zip(i.validation.names, miou(i.validation.confusion), strict=True)) for i in (a, b)]
    shared = [name for name in a.validation.names if name in scores[1]]
    return sorted(shared, key=lambda name: -np.nan_to_num(abs(scores[0][name] - scores[1][name]), nan=-1.0))


def main_table(study: Path) -> Table:
    """The table of a study that has most cells. Raises FileNotFoundError where there is no run."""
    tables: Sequence[Table] = read_study(study)
    if not tables:
        raise FileNotFoundError(f"{study}: no run folder in it; accepted is a folder such as outputs/demo")
    return max(tables, key=lambda table: len(table.entries))
