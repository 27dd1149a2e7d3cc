"""The lab's own configuration for a benchmark."""

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from seglab.config.compose import named

CONF = Path(__file__).resolve().parents[2] / "conf"


def composed(*overrides: str) -> dict[str, Any]:
    """The config that train.py makes of these overrides."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=list(overrides), return_hydra_config=True)
    return named(cfg, cfg.hydra)
