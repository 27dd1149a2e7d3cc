"""The lab's own configuration for a benchmark."""

from seglab.config import compose
from seglab.config.schema import Config


def composed(*overrides: str) -> Config:
    """The config that train.py makes of these overrides."""
    return compose.composed(overrides)
