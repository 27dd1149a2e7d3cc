"""The sweeper behind `-m`: Hydra's own, with one job for all cells that share epochs, and the grid at its end."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore


@dataclass
class GridSweeperConf:
    """Hydra's configuration of the sweeper."""

    _target_: str = "hydra_plugins.seglab_sweeper.GridSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


ConfigStore.instance().store(group="hydra/sweeper", name="seglab", node=GridSweeperConf, provider="seglab")


class GridSweeper(BasicSweeper):
    """A wrong config or data set ends the sweep before anything trains; a failed cell ends nothing."""

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        """The jobs of the next batch, rows of cells folded. Raises ConfigError or DataError."""
        from seglab.build import named
        from seglab.grid import say_plan, trainings

        assert self.hydra_context is not None and self.config is not None
        jobs = []
        for overrides in super().get_job_batch():
            cfg = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            jobs.append((overrides, named(cfg, cfg.hydra.runtime.choices)))
        rows = trainings(jobs)
        say_plan(rows)
        return [row.arguments for row in rows]

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Nothing more: `get_job_batch` composed every cell."""

    def sweep(self, arguments: list[str]) -> Any:
        """Runs all cells, writes and prints the grid; SystemExit if a cell has no score."""
        from seglab.grid import finish
        from seglab.signals import asked_to_stop

        batches = super().sweep(arguments)
        assert self.config is not None
        try:
            finish(
                [r for batch in batches for job in batch for r in job.return_value], Path(self.config.hydra.sweep.dir)
            )
        finally:
            if asked_to_stop():
                print(f"stopped by {asked_to_stop()}; this goes on: {shlex.join(['python', *sys.argv])}")
        return batches
