"""One job of train.py: it trains a row of cells, or measures how fast that would be."""

import logging
from pathlib import Path
from typing import Any

from seglab.benchmark.benchmark import benchmark
from seglab.config.schema import Config, ConfigError
from seglab.machine.environment import warn_of_unseen_gpus
from seglab.machine.processes import see_remembered_gpus
from seglab.report.tables import write_grid
from seglab.run.folder import DONE
from seglab.sweep.done import cell_done, show
from seglab.training.row import train_row

log = logging.getLogger(__name__)


def job(config: Config, alone: bool = False) -> list[dict[str, Any]]:
    """A result for each cell, or the one of a benchmark; each has a `status`. Raises ConfigError or DataError.

    `alone`: no sweep follows that would show what it left.
    """
    see_remembered_gpus()
    warn_of_unseen_gpus(config.accelerator)
    if not config.benchmark:
        return _trained_alone(config) if alone else train_row(config, cell_done)
    if config.profile:
        raise ConfigError("profile=true with benchmark=true: accepted is one of them")
    if config.together:
        raise ConfigError(
            "benchmark=true with trainer.strategy=ddp: it measures one device; accepted are other trainers"
        )
    return [benchmark(config)]


def _trained_alone(config: Config) -> list[dict[str, Any]]:
    pages: list[Path | None] = []
    study = Path(config.output_dir).expanduser() / config.study
    results = train_row(config, lambda cell, data: pages.append(show(cell.study, data)))
    if not pages and any(result["status"] != DONE for result in results):
        pages.append(show(study))
    if pages and pages[-1]:
        write_grid(study)
        log.info("%s shows it", pages[-1])
    return results
