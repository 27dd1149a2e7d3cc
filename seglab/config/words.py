"""The words of a command line: put in the order and the quotes that Hydra needs, or one line that shows how."""

import inspect
import os.path
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from seglab.config.constructors import INJECTED, target
from seglab.config.schema import ConfigError

TEXT = ("study", "output_dir", "data.root", "data.cache_dir", "model.encoder_weights")
"""Keys whose values are text also where they look like numbers, and may begin with `~`."""

SWEEPS = ("choice(", "range(", "interval(", "glob(", "shuffle(", "sort(", "tag(", "str(")


def arranged(typed: Sequence[str]) -> list[str]:
    """The words behind train.py as Hydra reads them: options first, wherever they stood. Raises ConfigError."""
    actions = {name: action for action in get_args_parser()._actions for name in action.option_strings}
    options: list[str] = []
    overrides: list[str] = []
    waiting = list(typed)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        action = actions.get(word)
        choices = action.choices if action and action.choices else ()
        if action and action.nargs == "?" and not (waiting and waiting[0] in choices):
            word = f"{word}={action.const}"  # argparse would take an override for its value
        options.append(word)
        if waiting and action and (action.nargs is None or (action.nargs == "?" and "=" not in word)):
            options.append(waiting.pop(0))
    return [*options, *readable(overrides)]


def readable(overrides: Sequence[str]) -> list[str]:
    """The same overrides as Hydra's grammar takes them. Raises ConfigError, which shows the form that it takes."""
    out = [_rewritten(word) for word in overrides]
    for typed, word in zip(overrides, out, strict=True):
        if typed.lstrip("+").startswith("hydra.sweeper.params"):
            rest = typed.lstrip("+").removeprefix("hydra.sweeper.params.")
            raise ConfigError(
                f"{typed}: only an experiment file holds sweeps so; accepted is python train.py -m {rest}"
            )
        try:
            OverridesParser.create().parse_override(word)
        except HydraException as e:
            raise ConfigError(_refusal(typed, str(e).splitlines()[0])) from e
    return out


def with_plus(error: Exception, words: Sequence[str]) -> list[str] | None:
    """The words with `+` before a key that its constructor takes but no file of conf/ sets; None for another error."""
    cause = error.__cause__
    if not isinstance(cause, ConfigKeyError | ConfigAttributeError) or not isinstance(cause.parent_node, Mapping):
        return None
    path, _, key = str(cause.full_key).rpartition(".")
    if not path or "_target_" not in cause.parent_node:
        return None
    accepted = inspect.signature(target(cause.parent_node, path)).parameters
    if path != "trainer" and (key not in accepted or key in INJECTED.get(path, ())):
        return None
    out = [f"+{word}" if word.startswith(f"{path}.{key}=") else word for word in words]
    return out if out != list(words) else None


def mappings(value: Any) -> Any:
    """The same value with each text `{...}` that is a mapping as that mapping: Hydra's grammar lacks keys with `#`."""
    if isinstance(value, Mapping):
        return {k: mappings(v) for k, v in value.items()}
    return (_mapping(value) or value) if isinstance(value, str) else value


def quoted(text: str) -> str:
    """Text as one value of Hydra's grammar."""
    mark = "'" if '"' in text else '"'
    return mark + text.replace(mark, f"\\{mark}") + mark


def _rewritten(word: str) -> str:
    key, equals, value = word.partition("=")
    if key.lstrip("+") in TEXT and equals:
        return key + equals + _text(value)
    if _mapping(value) and _parsed(word) is None:
        return key + equals + quoted(value)
    return word


def _text(value: str) -> str:
    """Text, or texts joined by commas, of which those are quoted that Hydra would take for a number."""
    if value in ("", "null", "???") or value[0] in "'\"[{$" or value.startswith(SWEEPS):
        return value
    out = []
    for piece in value.split(","):
        text = os.path.expanduser(piece) if piece.startswith("~") else piece
        found = _parsed(f"x={text}")
        number = found is not None and not found.is_sweep_override() and not isinstance(found.value(), str | None)
        out.append(quoted(text) if number or (found is None and text != piece) else text)
    return ",".join(out)


def _mapping(value: str) -> dict | None:
    if not (value.startswith("{") and value.endswith("}")):
        return None
    try:
        found = yaml.safe_load(value)
    except yaml.YAMLError:
        return None
    return found if isinstance(found, dict) and found and None not in found.values() else None


def _parsed(word: str) -> Any:
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None


def _refusal(word: str, why: str) -> str:
    key, equals, value = word.partition("=")
    suggested = f"{key}={quoted(value)}"
    parsed = _parsed(suggested)
    if not equals:
        return f"{word}: accepted is key=value"
    if value[:1] in ("[", "{") or parsed is None or parsed.value() != value:
        return f"{word}: {why}"
    return f"{word}: this value needs quotes for Hydra within quotes for the shell: {shlex.quote(suggested)}"
