"""The one way from the command line's overrides to a checked config."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seglab.config.constructors import check
from seglab.config.messages import one_line
from seglab.config.schema import Config, ConfigError, Names

if TYPE_CHECKING:
    from typing import Any

    from omegaconf import DictConfig

CONF = Path(__file__).parent.parent.parent / "conf"


def config_of(cfg: "DictConfig | Mapping[str, Any] | Config") -> Config:
    """The checked config of a composed one; a Config is one already. Raises ConfigError."""
    if isinstance(cfg, Config):
        return cfg
    values = {str(k): v for k, v in OmegaConf.create(cfg).items_ex(resolve=False) if k != "hydra"}  # type: ignore[union-attr,arg-type]
    config = Config.of(OmegaConf.to_container(OmegaConf.create(values), resolve=True))  # type: ignore[arg-type]
    check(config)
    return config


def named(cfg: "DictConfig", choices: Mapping[str, str]) -> Config:
    """The checked config with the file chosen of each group under `names`. Raises ConfigError."""
    return config_of(cfg).but(names=Names(**{group: choices[group] for group in Names.model_fields}))


def composed(overrides: Sequence[str]) -> Config:
    """The checked config of these overrides of train.py. Raises ConfigError, one line."""
    if not CONF.is_dir():
        raise ConfigError(f"{CONF}: no such folder; seglab needs its own checkout: pip install -e path/to/it")
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", list(overrides), return_hydra_config=True)
            return named(cfg, cfg.hydra.runtime.choices)
    except (HydraException, OmegaConfBaseException) as e:
        raise ConfigError(one_line(e)) from e
