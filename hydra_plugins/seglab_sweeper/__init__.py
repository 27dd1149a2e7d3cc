"""Sweeper behind `-m`: one job for all cells that share epochs, and the grid at the end."""

import contextlib
import logging
import os.path
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from seglab.machine.imports import without_collection

if TYPE_CHECKING:
    from seglab.sweep.plan import Job

log = logging.getLogger(__name__)


@dataclass
class GridSweeperConf:
    """Hydra's configuration of the sweeper; `params` are sweeps that a config file holds."""

    _target_: str = "hydra_plugins.seglab_sweeper.GridSweeper"
    params: dict[str, str] | None = None


OmegaConf.register_new_resolver("home", os.path.expanduser, replace=True)  # else a folder named `~` is made
ConfigStore.instance().store(group="hydra/sweeper", name="seglab", node=GridSweeperConf, provider="seglab")


class GridSweeper(BasicSweeper):
    """Sweeper that ends at a wrong config or data set before anything trains; a failed cell does not end it."""

    def __init__(self, params: dict[str, str] | None = None):
        super().__init__(max_batch_size=None, params=params)

    def sweep(self, arguments: list[str]) -> Any:
        """Runs all cells and shows the grid. Raises ConfigError, DataError, or SystemExit if a score is missing."""
        with without_collection():
            from seglab.config.messages import command, full_disk, telling_command
            from seglab.machine.signals import asked_to_stop, stopping_softly
            from seglab.sweep.plan import finish, say_plan, trainings

        assert self.hydra_context is not None and self.config is not None and self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        (asked,) = self.split_arguments(parser.parse_overrides([*self._parse_config(), *arguments]), None)
        launcher = str(self.config.hydra.launcher._target_)
        jobs = self._jobs(asked)
        if any(config.benchmark for _, config in jobs):
            return self._benchmark(jobs, launcher)
        rows = trainings(jobs, trains_here="submitit" not in launcher)
        say_plan(rows)
        left = [row.arguments for row in rows if not row.done]
        here = contextlib.nullcontext() if "Slurm" in launcher else stopping_softly("basic" not in launcher)
        with here, telling_command():
            try:
                returned = self.launcher.launch(left, initial_job_idx=0) if left else []
            except Exception as e:  # such as a process that died; its run folders show how far it came
                log.error("a job was lost: %s", f"{type(e).__name__}: {e}".splitlines()[0])
                returned = []
        if asked_to_stop():
            print(f"stopped by {asked_to_stop()}; to resume: {command()}")
        try:
            finish(rows)
        except OSError as e:
            raise SystemExit(f"train.py: {full_disk(e, rows[0].cells[0].study) or e}") from None
        return returned

    def _benchmark(self, jobs: list["Job"], launcher: str) -> list[Any]:
        from seglab.benchmark.sweep import distinct, show
        from seglab.machine.signals import stopping_softly

        assert self.launcher is not None
        combinations = distinct(jobs, launcher)
        with stopping_softly():
            returned = self.launcher.launch([overrides for overrides, _ in combinations], initial_job_idx=0)
        show([overrides for overrides, _ in combinations], [job.return_value[0] for job in returned])
        return list(returned)

    def _jobs(self, asked: Sequence[Sequence[str]]) -> list["Job"]:
        from seglab.config.compose import named
        from seglab.sweep.plan import threads_each

        assert self.hydra_context is not None and self.config is not None
        rows_at_most = len({tuple(o for o in job if not o.startswith("epochs=")) for job in asked})
        threads = threads_each(self.config.hydra.launcher, rows_at_most)
        jobs = []
        for job in asked:
            overrides = [*job, f"threads={threads}"] if threads and self.config.threads is None else [*job]
            cfg = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
            jobs.append((overrides, named(cfg, cfg.hydra)))
        return jobs
