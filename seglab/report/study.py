"""A study as the report sees it: each cell with the content of its run folder, and in words what it lacks."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from seglab.config.schema import Config, ConfigError
from seglab.labels import VOID
from seglab.pages.text import printable
from seglab.report.cells import Cell, Study, first_line, read_cells
from seglab.run.folder import DONE, Run
from seglab.run.reading import RecordError
from seglab.run.records import Validation
from seglab.scores import MAIN

NO_COLOR = "#808080"
"""Of a class whose colour can't be read."""


@dataclass
class Entry:
    """One cell and its files; what could not be read is None, and `problems` says why."""

    cell: Cell
    run: Run
    config: Config
    name: str
    """Loss, epochs and, where a table has several, the seed."""
    metrics: list[dict[str, float]] = field(default_factory=list)
    validation: Validation | None = None
    calibration: np.ndarray | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """True if it has a score."""
        return self.cell.status == DONE and self.cell.val.get(MAIN.name) is not None

    @property
    def miou(self) -> float:
        """Validation mIoU of a finished cell."""
        return float(self.cell.val[MAIN.name] or 0)

    @property
    def classes(self) -> dict[str, str]:
        """Class names and their colours."""
        return {k: v if is_color(v) else NO_COLOR for k, v in self.config.classes.items()}


@dataclass
class Table:
    """Cells that are equal in all but loss, epochs and seed."""

    title: str
    entries: list[Entry]
    superseded: Sequence[Cell] = ()
    """runs of which a newer one of the same cell counts"""

    @cached_property
    def done(self) -> list[Entry]:
        """Those with a score."""
        return [e for e in self.entries if e.done]

    @property
    def classes(self) -> dict[str, str]:
        """Class names and their colours."""
        return self.entries[0].classes

    @cached_property
    def compared(self) -> list[Entry]:
        """Finished cells whose counts are of the same validation images: those that most cells have."""
        images = {e.cell.folder: tuple(e.validation.names) for e in self.done if e.validation is not None}
        most = Counter(images.values()).most_common(1)
        return [e for e in self.done if most and images.get(e.cell.folder) == most[0][0]]


def read_study(folder: Path) -> list[Table]:
    """The tables of a study, in the order of their titles; a run folder that can't be read is left out."""
    return read_tables(read_cells(folder))


def read_tables(study: Study) -> list[Table]:
    """The same of cells that were read; what turns out to be unreadable is noted in `study`."""
    out = []
    for title in dict.fromkeys(c.table for c in study.cells):
        among = [c for c in study.cells if c.table == title]
        entries = []
        for cell in among:
            try:
                entries.append(_entry(cell, among))
            except (ValueError, OSError) as e:
                study.unreadable[cell.folder] = printable(first_line(e))
        if entries:
            table = Table(title, entries, [c for c in study.superseded if c.table == title])
            compared = {e.cell.folder for e in table.compared}
            for odd in (e for e in table.done if e.validation is not None and e.cell.folder not in compared):
                odd.problems.append(f"{odd.cell.folder}: its validation.csv is of other images, so it is not compared")
            out.append(table)
    return out


def is_color(value: Any) -> bool:
    """True if it is `#rrggbb`: all else might say more to a browser than a colour."""
    return isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{6}", value) is not None


def cell_name(loss: str, epochs: int, seed: int, seeds: int) -> str:
    """Name of a cell among others of so many seeds."""
    return f"{loss}, {epochs} epoch{'s' * (epochs != 1)}" + (f", seed {seed}" if seeds > 1 else "")


def _entry(cell: Cell, among: Sequence[Cell]) -> Entry:
    name = cell_name(cell.loss, cell.epochs, cell.seed, len({c.seed for c in among}))
    run = cell.run
    entry = Entry(cell, run, cell.config, name, problems=[*cell.notes])
    if not 0 < len(cell.config.classes) <= VOID:
        raise ConfigError(f"data.classes names {len(cell.config.classes)} classes; accepted are 1 to {VOID}")
    wrong = {k: v for k, v in cell.config.classes.items() if not is_color(v)}
    entry.problems += [f"{cell.folder}: class {k} has the colour {v}, which is no #rrggbb" for k, v in wrong.items()]
    for part, read in {"metrics": run.metrics, **_records(entry)}.items():
        try:
            setattr(entry, part, read())
        except (ValueError, OSError) as e:
            entry.problems.append(f"{cell.folder}: {part} can't be read ({printable(first_line(e))})")
    if entry.done and entry.validation is None and len(entry.problems) == len(cell.notes):
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
