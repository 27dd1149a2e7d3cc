"""The trainings that a sweep needs, the cells that each of them fills, and what is shown at its end."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from seglab.config.schema import Config, plain
from seglab.data import SegmentationData
from seglab.machine.environment import gpus_are_alike
from seglab.machine.processes import remember_visible_gpus, usable_cores
from seglab.report.tables import write_grid
from seglab.run.folder import DONE
from seglab.sweep.done import show
from seglab.training.cell import Cell, prepare
from seglab.training.row import nothing_left, starting_point

log = logging.getLogger(__name__)

Job = tuple[Sequence[str], Config]
"""Overrides, and the config that they make."""


MOST_NAMED = 20
"""Cells of one state that a plan names."""


@dataclass(frozen=True)
class Training:
    """One job: the overrides of its longest cell, and all cells that it fills, the shortest first."""

    overrides: tuple[str, ...]
    cells: tuple[Cell, ...]

    @property
    def arguments(self) -> list[str]:
        """The overrides of the job."""
        marks = ",".join(str(c.epochs) for c in self.cells)
        return [*self.overrides, f"marks=[{marks}]"] if len(self.cells) > 1 else list(self.overrides)

    @property
    def done(self) -> bool:
        """True if nothing is left to do."""
        return all(c.run.done for c in self.cells)

    @property
    def cost(self) -> int:
        """Epochs that remain to be trained: a trunk as long as the longest cell, and what the others don't share."""
        missing = [c for c in self.cells if not c.run.done]
        if not missing:
            return 0
        *others, longest = missing
        start = _trained(longest)
        ahead = [c.shared_epochs if c.shared_epochs >= start else _trained(c) for c in others]
        return longest.epochs - start + sum(c.epochs - given for c, given in zip(others, ahead, strict=True))


def _trained(cell: Cell) -> int:
    found = starting_point(cell)
    return found.epochs if found else 0


def trainings(jobs: Sequence[Job], trains_here: bool = True) -> list[Training]:
    """Jobs (overrides and config), those together that share epochs. Raises ConfigError or DataError.

    `trains_here`: in a process that sees this host's devices; else a job of its own decides on which it trains.
    """
    if not trains_here:
        remember_visible_gpus()
    rows: dict[tuple, Training] = {}
    read: dict[str, SegmentationData] = {}
    for overrides, config in jobs:
        source = json.dumps(plain(config.data))
        known = trains_here and (config.accelerator == "cpu" or gpus_are_alike())
        read[source], (cell,) = prepare(config, read.get(source), known)
        alone = () if cell.shared_epochs else (cell.epochs,)
        key = (cell.identity.key, cell.study, *alone)
        row = rows.get(key)
        if row is None:
            rows[key] = Training(tuple(overrides), (cell,))
        elif cell.epochs not in [c.epochs for c in row.cells]:
            longest = overrides if cell.epochs > row.cells[-1].epochs else row.overrides
            cells = tuple(sorted((*row.cells, cell), key=lambda c: c.epochs))
            rows[key] = replace(row, overrides=tuple(longest), cells=cells)
    return list(rows.values())


def say_plan(rows: Sequence[Training]) -> None:
    """Logs the plan of the sweep before it starts."""
    cells = [c for row in rows for c in row.cells]
    alone = sum(c.epochs for c in cells if not c.run.done)
    log.info("%d cells in %d trainings: %d epochs to train, %d if each cell was trained alone",
             len(cells), len(rows), sum(row.cost for row in rows), alone)  # fmt: skip
    if any(not c.shared_epochs for c in cells):
        why = "share=false" if not cells[0].config.share else "their schedule looks at the total"
        log.info("cells of different lengths are trained alone: %s", why)
    for status in dict.fromkeys(_state(c) for c in cells):
        names = [c.run.folder.name for c in cells if _state(c) == status]
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        log.info("%s: %s%s", status, ", ".join(names[:MOST_NAMED]), more)
    for row in rows:
        if row.done and row.cells[-1].config.profile:
            log.info("%s", nothing_left(row.cells[-1].run))


def _state(cell: Cell) -> str:
    if not cell.run.config_file.exists():
        return "to train"
    status = cell.run.results()["status"]
    return "done already" if status == DONE else f"{status}, to resume"


def threads_each(launcher: Mapping[str, Any], rows: int) -> int | None:
    """CPU threads of each training where a launcher runs several on one host, or gets its own; else None, for all."""
    cores = usable_cores()
    if "n_jobs" in launcher:  # joblib
        at_once = min(rows, launcher["n_jobs"] if launcher["n_jobs"] > 0 else cores)
        return max(1, cores // at_once)
    if "Slurm" in launcher["_target_"]:
        return launcher["cpus_per_task"]
    return max(1, cores // rows) if "Local" in launcher["_target_"] else None  # submitit starts all at once


def finish(rows: Sequence[Training]) -> None:
    """Writes and prints the grid of each study. Raises SystemExit if a cell of this sweep has no score."""
    cells = [cell for row in rows for cell in row.cells]
    for study in dict.fromkeys(cell.study for cell in cells):
        print(f"\n{write_grid(study)}\n{study / 'grid.csv'} and grid.md hold the same.")
        if report := show(study):
            print(f"{report} shows the maps, the curves, and which differences are real.")
    missing = sum(not cell.run.done for cell in cells)
    if missing:
        raise SystemExit(f"{missing} of {len(cells)} cells have no score, see above")
