"""Finished cells as settings and counts of images, from one study or several."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seglab.pages.text import printable
from seglab.report.cells import Cell, settings_of, text_of
from seglab.report.rows import read_cells_of
from seglab.run.folder import DONE
from seglab.run.records import Validation
from seglab.scores import MAIN, by_key


@dataclass(frozen=True)
class Scored:
    """The counts that are compared: of a split of the data of this content, or whose content begins so.

    No content: those that training left of its own data. `original`: on labels of their own size.
    Raises ValueError for a content that is no hash.
    """

    split: str = "val"
    content: str = ""
    original: bool = False

    def __post_init__(self) -> None:
        if not {*self.content} <= {*"0123456789abcdef"}:
            raise ValueError(f"--content {self.content}: accepted is a hash, or its beginning, of digits and a to f")

    @property
    def by_training(self) -> bool:
        """True if no `seglab evaluate` is needed for them."""
        return self == Scored()

    @property
    def words(self) -> str:
        """The split and labels that they are of, and the command that makes them."""
        if self.by_training:
            return "its validation split, which training makes"
        labels = ", on labels of their own size" * self.original + f", of data {self.content}" * bool(self.content)
        options = f" --split {self.split}" * (self.split != "val") + " --original" * self.original
        return f"its {self.split} images{labels}; seglab evaluate RUN --data ROOT{options} makes them"

    def of(self, cell: Cell) -> Validation | None:
        """The counts of a finished cell; None where they were not kept. Raises RecordError."""
        if self.by_training:
            return cell.run.records.validation()
        return cell.run.evaluations.counts(self.split, self.content, self.original)


@dataclass(frozen=True)
class Outcome:
    """A finished cell: its settings as text, also loss and epochs but not the seed, and the counts of its images."""

    cell: Cell
    settings: dict[str, str]
    seed: int
    counts: Validation

    @property
    def classes(self) -> list[str]:
        """Class names."""
        return list(self.cell.config.classes)

    @property
    def miou(self) -> float:
        """Of all images."""
        return self.score(MAIN.name)

    def score(self, key: str) -> float:
        """The score of this key, of all images."""
        return float(by_key(key, self.classes)(self.counts.confusion.sum(0)))

    def without(self, key: str) -> tuple[tuple[str, str], ...]:
        """All settings but one."""
        return tuple((k, v) for k, v in self.settings.items() if k != key)


def outcomes_of(studies: Sequence[Path], scored: Scored) -> tuple[list[Outcome], list[str]]:
    """The finished cells of studies that have such counts, and a sentence on each that has none.

    Raises FileNotFoundError for a folder without runs.
    """
    return of_cells([cell for study in studies for cell in read_cells_of(study).cells], scored)


def of_cells(found: Sequence[Cell], scored: Scored) -> tuple[list[Outcome], list[str]]:
    """The same of cells that were read."""
    cells = [cell for cell in found if cell.status == DONE]
    out: list[Outcome] = []
    missing: list[str] = []
    keys: dict[str, None] = {}
    all_settings = settings_of(cells)
    for own in all_settings:
        keys |= dict.fromkeys(own)
    for cell, own in zip(cells, all_settings, strict=True):
        settings = {key: printable(text_of(own.get(key))) for key in keys} | {
            "loss": cell.loss,
            "epochs": str(cell.epochs),
        }
        try:
            counts = scored.of(cell)
        except (ValueError, OSError) as e:
            missing.append(f"{cell.folder}: left out, its counts can't be read ({e})")
            continue
        if counts is None:
            missing.append(f"{cell.folder}: left out, it has no counts of {scored.words}")
        elif counts.confusion.shape[1] != len(cell.config.classes):
            count = f"{counts.confusion.shape[1]} classes, its config {len(cell.config.classes)}"
            missing.append(f"{cell.folder}: left out, its counts have {count}")
        else:
            out.append(Outcome(cell, settings, cell.seed, in_order(counts)))
    return _each_once(out), missing


def _each_once(found: Sequence[Outcome]) -> list[Outcome]:
    """Each cell once, also where two studies hold it."""
    return list({(o.without(""), o.seed): o for o in found}.values())


def in_order(counts: Validation) -> Validation:
    """The same counts in the order of the images' names."""
    order = np.argsort(counts.names, kind="stable").tolist()
    names, scenes = ([column[i] for i in order] for column in (counts.names, counts.scenes))
    return Validation(names, scenes, counts.confusion[order])


def varying(found: Sequence[Outcome]) -> list[str]:
    """Keys of which the outcomes have several values."""
    return [key for key in (found[0].settings if found else ()) if len({o.settings[key] for o in found}) > 1]
