"""One line for every error that a user can cause."""

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from seglab.config.schema import did_you_mean
from seglab.run.folder import DONE, INTERRUPTED


def speak() -> None:
    """What is logged goes to the terminal, without the traces that a run's own log also holds."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setLevel(logging.INFO)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    # of Hydra 1.3, which rightly checks conf/hydra/launcher against the plugins' own
    warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")


def one_line(error: Exception) -> str:
    """What is wrong with a command and what would be accepted."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return f"{group}={choice}: no such {group}; {did_you_mean(choice, error.options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: {str(error).splitlines()[0]}"
    cause = error.__cause__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.full_key:
        known = [str(k) for k in cause.parent_node or () if k != "_target_"]
        return f"{cause.full_key}: no such key; {did_you_mean(str(cause.key), known)}"
    if "hydra_plugins.hydra_" in str(error):
        return "this launcher is an extra: pip install -e '.[cluster]'"
    return str(error) if isinstance(error, ValueError) else (str(error) or str(cause)).splitlines()[0]


def ending(results: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a row has no score, and how to go on; None if it has."""
    for cell in results:
        if cell["status"] != DONE:
            go_on = f"\nthis goes on: {command()}" if cell["status"] == INTERRUPTED else ""
            return f"{cell['status']}: {cell['reason']}{go_on}"
    return None


COMMAND = "SEGLAB_COMMAND"
"""Environment variable by which a sweep tells the processes it starts what the user typed."""


def command() -> str:
    """What the user typed."""
    return os.environ.get(COMMAND) or shlex.join(["python", *sys.argv])


@contextmanager
def telling_command() -> Iterator[None]:
    """Processes started meanwhile know what the user typed."""
    before = os.environ.get(COMMAND)
    os.environ[COMMAND] = command()
    try:
        yield
    finally:
        os.environ.pop(COMMAND)
        if before is not None:
            os.environ[COMMAND] = before
