"""A study as the report sees it: each cell with what its run folder holds, and in words what it lacks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from seglab.report.tables import Cell, cells
from seglab.run.folder import DONE, Run
from seglab.run.records import RecordError, Validation

NO_COLOR = "#808080"
"""Of a class whose colour can't be read."""


@dataclass
class Entry:
    """One cell and its files; what could not be read is None, and `problems` says why."""

    cell: Cell
    run: Run
    config: Mapping[str, Any]
    name: str
    """Loss, epochs and, where a table has several, the seed."""
    metrics: list[dict[str, float]] = field(default_factory=list)
    validation: Validation | None = None
    calibration: np.ndarray | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether it has a score."""
        return self.cell.status == DONE and self.cell.val.get("miou") is not None

    @property
    def miou(self) -> float:
        """Validation mIoU of a finished cell."""
        return float(self.cell.val["miou"] or 0)

    @property
    def classes(self) -> dict[str, str]:
        """Class names and their colours."""
        return {str(k): str(v) if is_color(v) else NO_COLOR for k, v in self.config["data"]["classes"].items()}


@dataclass
class Table:
    """Cells that are equal in all but loss, epochs and seed."""

    title: str
    entries: list[Entry]

    @property
    def done(self) -> list[Entry]:
        """Those with a score."""
        return [e for e in self.entries if e.done]

    @property
    def classes(self) -> dict[str, str]:
        """Class names and their colours."""
        return self.entries[0].classes

    @property
    def compared(self) -> list[Entry]:
        """Finished cells whose counts are of the same validation images: those of the first that has any."""
        found = [e for e in self.done if e.validation is not None]
        first = found[0].validation if found else None
        return [e for e in found if e.validation and first and e.validation.names == first.names]


def read_study(folder: Path) -> list[Table]:
    """The tables of a study, in the order of their titles. Raises ValueError for a folder that holds no run of ours."""
    try:
        return _read(folder)
    except (KeyError, TypeError, AttributeError, yaml.YAMLError) as e:
        why = f"{type(e).__name__}: {e}".splitlines()[0]
        raise ValueError(f"{folder}: a run folder in it can't be read ({why})") from e


def _read(folder: Path) -> list[Table]:
    tables: dict[str, list[Cell]] = {}
    for cell in cells(folder):
        tables.setdefault(cell.table, []).append(cell)
    return [Table(title, [_entry(folder, c, found) for c in found]) for title, found in tables.items()]


def is_color(value: Any) -> bool:
    """Whether it is `#rrggbb`: all else might say more to a browser than a colour."""
    return isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{6}", value) is not None


def cell_name(loss: str, epochs: int, seed: int, seeds: int) -> str:
    """What a cell is called among others of so many seeds."""
    return f"{loss}, {epochs} epoch{'s' * (epochs != 1)}" + (f", seed {seed}" if seeds > 1 else "")


def _entry(folder: Path, cell: Cell, among: Sequence[Cell]) -> Entry:
    run = Run(folder / cell.folder)
    name = cell_name(cell.loss, cell.epochs, cell.seed, len({c.seed for c in among}))
    entry = Entry(cell, run, run.config(), name)
    wrong = {k: v for k, v in entry.config["data"]["classes"].items() if not is_color(v)}
    entry.problems += [f"{cell.folder}: class {k} has the colour {v}, which is no #rrggbb" for k, v in wrong.items()]
    for part, read in {"metrics": run.metrics, **_records(entry)}.items():
        try:
            setattr(entry, part, read())
        except (RecordError, ValueError, OSError, TypeError, KeyError) as e:
            entry.problems.append(f"{cell.folder}: {part} can't be read ({str(e).splitlines()[0]})")
    if entry.done and entry.validation is None and not entry.problems:
        entry.problems.append(f"{cell.folder}: no validation.csv, so it is neither compared nor shown on the wall")
    return entry


def _records(entry: Entry) -> dict[str, Any]:
    if not entry.done:  # what a cell left before it was started anew is not its own
        return {}
    records, k = entry.run.records, len(entry.classes)

    def validation() -> Validation | None:
        found = records.validation()
        if found and found.confusion.shape[1:] != (k, k):
            raise RecordError(f"{found.confusion.shape[1]} classes, the config names {k}")
        return found

    return {"validation": validation, "calibration": records.calibration}


def colors_of(entries: Sequence[Entry]) -> dict[str, int]:
    """Which of the page's colours each loss has, the same in every chart."""
    return {loss: i for i, loss in enumerate(dict.fromkeys(e.cell.loss for e in entries))}
