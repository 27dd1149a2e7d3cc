"""Trains one cell, or with -m a grid of them: python train.py -m loss=lovasz,dice,focal epochs=20,50,100."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from seglab.config.messages import closed_output, ending, full_disk, one_line, speak, telling_command
from seglab.machine.files import remove_if_empty
from seglab.machine.imports import without_collection
from seglab.machine.signals import forget


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent / "conf"), config_name="train")
def main(cfg: DictConfig) -> list[dict] | None:
    """One row of cells; in a multirun the sweeper calls it for each and reads what it leaves."""
    with without_collection():  # here: --help and a misspelt override need no torch
        from seglab.config.compose import named
        from seglab.machine.processes import in_a_fresh_process
        from seglab.sweep.job import job

    speak()  # also in a launcher's process
    hydra_config = HydraConfig.get()
    alone = hydra_config.mode == RunMode.RUN
    try:
        config = named(cfg, hydra_config)
        if config.together and not alone:
            in_a_fresh_process(list(hydra_config.overrides.task))
            return None
        results = job(config, alone)
    except (ValueError, OSError) as e:
        said = full_disk(e, Path(cfg.output_dir).expanduser() / str(cfg.study)) or str(e)
        if not alone:
            print(said)
            raise
        remove_if_empty(Path(hydra_config.runtime.output_dir))  # Hydra makes the study's folder before anything else
        raise SystemExit(f"train.py: {said}") from None  # passes Hydra, which would say more
    if alone and (why := ending(results)):
        raise SystemExit(why)
    if "SLURM_JOB_ID" in os.environ and any(cell["status"] == "interrupted" for cell in results):
        raise SystemExit(1)  # else Slurm would call it completed
    return results


def run() -> None:
    """`main`, where an expected error is one line."""
    asked_for_trace = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands us the error instead of printing a part of it
    forget()
    speak()
    typed = sys.argv
    try:
        with telling_command(), closed_output():
            _main_of(typed)
    except KeyboardInterrupt:
        print("train.py: stopped by Ctrl-C before anything was trained", file=sys.stderr)
        raise SystemExit(130) from None
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as e:
        if asked_for_trace:
            raise
        raise SystemExit(f"train.py: {one_line(e)}") from None
    finally:
        sys.argv = typed


def _main_of(typed: Sequence[str]) -> None:
    from seglab.config.compose import with_missing_plus
    from seglab.config.words import arranged

    def of(words: Sequence[str]) -> None:
        sys.argv = [typed[0], *words]
        main()

    with_missing_plus(of, arranged(typed[1:]))


if __name__ == "__main__":
    run()
