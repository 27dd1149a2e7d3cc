"""Trains one cell, or with -m a grid of them: python train.py -m loss=lovasz,dice,focal epochs=20,50,100."""

import logging
import os
import shlex
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from seglab.signals import forget


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent / "conf"), config_name="train")
def main(cfg: DictConfig) -> list[dict]:
    """One row of cells; in a multirun the sweeper calls it for each and judges what it returns."""
    from seglab.build import named  # here, so that --help and a misspelt override do not wait for torch
    from seglab.row import train_row

    hydra_config = HydraConfig.get()
    alone = hydra_config.mode == RunMode.RUN
    try:
        results = train_row(named(cfg, hydra_config.runtime.choices))
    except ValueError as e:
        if not alone:
            raise
        raise SystemExit(f"train.py: {e}") from None  # passes Hydra, which would say more
    for cell in results:
        if alone and cell["status"] != "done":
            go_on = f"\nthis goes on: {shlex.join(['python', *sys.argv])}" if cell["status"] == "interrupted" else ""
            raise SystemExit(f"{cell['status']}: {cell['reason']}{go_on}")
    return results


def run() -> None:
    """`main`, where an expected error is one line."""
    asked_for_trace = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands us the error instead of printing a part of it
    forget()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        main()
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as e:
        if asked_for_trace:
            raise
        raise SystemExit(f"train.py: {one_line(e)}") from None


def one_line(error: Exception) -> str:
    """What is wrong and what would be accepted."""
    from seglab.config import did_you_mean

    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return f"{group}={choice}: no such {group}; {did_you_mean(choice, error.options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: {str(error).splitlines()[0]}"
    cause = error.__cause__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.full_key:
        known = [str(k) for k in cause.parent_node or () if k != "_target_"]
        return f"{cause.full_key}: no such key; {did_you_mean(str(cause.key), known)}"
    return str(error) if isinstance(error, ValueError) else (str(error) or str(cause)).splitlines()[0]


if __name__ == "__main__":
    run()
