"""The config that train.py would compose, for commands that ask the same of the data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from seglab.config.messages import one_line
from seglab.config.parts import named
from seglab.config.schema import ConfigError

CONF = Path(__file__).parent.parent.parent / "conf"


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """The resolved and checked config of these overrides of train.py. Raises ConfigError, one line."""
    if not CONF.is_dir():
        raise ConfigError(f"{CONF}: no such folder; seglab needs its own checkout: pip install -e path/to/it")
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", list(overrides), return_hydra_config=True)
            return named(cfg, cfg.hydra.runtime.choices)
    except (HydraException, OmegaConfBaseException) as e:
        raise ConfigError(one_line(e)) from e
