"""The config of a run folder: data only, of which nothing is constructed or imported."""

from typing import Any

import yaml

from seglab.config.schema import Config, ConfigError
from seglab.run.folder import Run

MOVED = {"seglab.schedules.": "seglab.task.schedules."}
"""Where constructors are that a config of an earlier version names elsewhere."""


def read(run: Run) -> Config:
    """The config that a run folder keeps; keys that are newer than the run have their defaults.

    Raises FileNotFoundError for a folder without one, and ConfigError, one line, for one that is not seglab's.
    """
    try:
        values = run.config()
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise ConfigError(f"{run.config_file}: not a readable config ({str(e).splitlines()[0]})") from e
    if not isinstance(values, dict):
        raise ConfigError(f"{run.config_file}: not a readable config (it holds no keys)")
    try:
        return Config.of(_moved(values))
    except ConfigError as e:
        raise ConfigError(f"{run.config_file}: {e}") from e


def _moved(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: _moved(v) for k, v in node.items()}
    if isinstance(node, list):
        return [_moved(v) for v in node]
    old = next((old for old in MOVED if isinstance(node, str) and node.startswith(old)), "")
    return MOVED[old] + node.removeprefix(old) if old else node
