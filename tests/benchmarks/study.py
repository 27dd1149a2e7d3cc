"""Growth of the cost of a cell outside its steps with the cells that its study has already."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import yaml

from seglab.report.page import write_report
from seglab.report.tables import write_grid
from seglab.sweep.done import AT_LEAST, SHARE
from seglab.training.cell import Cell, prepare
from seglab.training.row import starting_point
from tests.benchmarks.config import composed
from tests.benchmarks.timing import Row
from tests.study import add_cell, draw_labels, spoil

LOSSES, EPOCHS, SEEDS = ("dice", "focal", "lovasz", "cross_entropy"), (2, 5, 10), 25


def rows(peer: ModuleType | None, script: Path | None, tiles: Path, seeds: int) -> Iterator[Row]:
    """CPU time of this process, the least of three, at 10, 100 and 300 finished cells."""
    with tempfile.TemporaryDirectory() as folder:
        config = composed("data=folder", f"data.root={tiles}", "data.size=64", f"data.cache_dir={folder}/cache")
        cell = prepare(config)[1][0]
        for count in (10, 100, 300):
            study = study_of(Path(folder) / "studies", count)
            mine = replace(cell, config=cell.config.but(output_dir=str(study.parent), study=study.name))
            yield Row(
                f"look for what a cell resumes from, {count} cells", None, 1e3 * _least(lambda c=mine: _seek(c)), "ms"
            )
            grid = _least(lambda s=study: write_grid(s))
            report = _least(lambda s=study: write_report(s))
            yield Row(
                f"grid and report when a sweep ends, {count} cells", None, 1e3 * (grid + report) / count, "ms a cell"
            )
            share = report / max(AT_LEAST, SHARE * report)
            yield Row(f"reports while a sweep runs, {count} cells", None, 100 * share, "% of the time")


def study_of(out: Path, count: int) -> Path:
    """A study of so many finished cells of 14 images, 64 x 64: copies of one for each number of epochs."""
    labels = draw_labels(14, 64)
    made = {}
    for epochs in EPOCHS:
        run = add_cell(
            out / f"made{count}", "dice", epochs, labels, spoil(labels, 0.3, epochs), scenes=[*"aabbccddeeffgg"]
        )
        made[epochs] = run.folder
    places = [(loss, epochs, seed) for seed in range(SEEDS) for loss in LOSSES for epochs in EPOCHS]
    for loss, epochs, seed in places[:count]:
        copy = Path(shutil.copytree(made[epochs], out / f"of{count}" / f"unet-{loss}-e{epochs}-s{seed}-00000000"))
        config = yaml.safe_load((copy / "config.yaml").read_text())
        config["seed"] = seed
        config["names"]["loss"] = loss
        (copy / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return out / f"of{count}"


def _seek(cell: Cell) -> None:
    list(cell.namesakes())
    starting_point(cell)


def _least(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(3):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return min(seconds)
