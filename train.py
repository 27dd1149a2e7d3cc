"""Trains one cell, or with -m a grid of them: python train.py -m loss=lovasz,dice,focal epochs=20,50,100."""

import logging
import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent / "conf"), config_name="train")
def main(cfg: DictConfig) -> dict:
    """One cell; in a multirun the sweeper calls it for each and judges what it returns."""
    from seglab.build import named  # here, so that --help and a misspelt override do not wait for torch
    from seglab.cell import train_cell

    hydra_config = HydraConfig.get()
    try:
        results = train_cell(named(cfg, hydra_config.runtime.choices))
    except ValueError as e:
        if hydra_config.mode != RunMode.RUN:
            raise
        raise SystemExit(f"train.py: {e}") from None  # passes Hydra, which would say more
    if hydra_config.mode == RunMode.RUN and results["status"] != "done":
        raise SystemExit(f"{results['status']}: {results['reason']}")
    return results


def run() -> None:
    """`main`, where an expected error is one line."""
    asked_for_trace = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands us the error instead of printing a part of it
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
