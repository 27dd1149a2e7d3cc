"""The sweeper behind `-m`: Hydra's own, which first checks every cell and at the end shows the grid."""

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
    """One job a cell. A wrong config or data set ends the sweep before anything trains; a failed cell ends nothing."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Composes, checks and prepares every cell. Raises ConfigError or DataError."""
        from seglab.grid import plan

        assert self.hydra_context is not None and self.config is not None
        load = self.hydra_context.config_loader.load_sweep_config
        plan([load(self.config, list(overrides)) for overrides in batch])

    def sweep(self, arguments: list[str]) -> Any:
        """Runs all cells, writes and prints the grid; SystemExit if a cell has no score."""
        from seglab.grid import finish

        batches = super().sweep(arguments)
        assert self.config is not None
        finish([job.return_value for batch in batches for job in batch], Path(self.config.hydra.sweep.dir))
        return batches
