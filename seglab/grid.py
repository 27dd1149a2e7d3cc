"""Which cells a sweep holds, and what is shown of them at its end."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from seglab.build import named
from seglab.cell import prepare
from seglab.report import write_grid
from seglab.runs import DONE

log = logging.getLogger(__name__)


def plan(composed: Sequence[DictConfig]) -> None:
    """Checks every cell's config and data before the first one trains. Raises ConfigError or DataError."""
    configs = [named(cfg, cfg.hydra.runtime.choices) for cfg in composed]
    runs = [prepare(config)[2] for config in configs]
    done = sum((run.results() or {}).get("status") == DONE for run in runs)
    epochs = sum(config["epochs"] for config in configs)
    log.info("%d cells, %d epochs, %d cells are done already", len(configs), epochs, done)


def finish(results: Sequence[Mapping[str, Any]], study: Path) -> None:
    """Writes and prints the grid of the study. Raises SystemExit if a cell of this sweep has no score."""
    print(f"\n{write_grid(study)}\n{study / 'grid.csv'} and grid.md hold the same.")
    missing = [r for r in results if r["status"] != DONE]
    if missing:
        raise SystemExit(f"{len(missing)} of {len(results)} cells have no score, see above")
