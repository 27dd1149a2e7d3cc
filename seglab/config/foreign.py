"""The few objects that are made of a run folder's config, which anybody may have written: its model and its reader."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import yaml

from seglab.config.constructors import added, check_arguments, target
from seglab.config.schema import Config, ConfigError, plain

if TYPE_CHECKING:
    from seglab.data import FolderReader

FILES = ("encoder_weights", "weights")
"""Arguments of models that name files: the checkpoint has all weights, so they are not opened."""


LARGEST = 10_000
"""Number in a model's arguments: one of its depth could keep a machine busy for ever."""


def check_model(config: Config) -> Config:
    """The config without files of weights. Raises ConfigError unless its model is one that conf/model lists."""
    node = {key: None if key in FILES else value for key, value in plain(config.model).items()}
    _check("model", "model", "", node)
    for value in _leaves(node):
        if isinstance(value, int | float) and not abs(value) <= LARGEST:
            raise ConfigError(f"model: {value} is more than the {LARGEST} that a run folder's model may ask for")
    return config.but(model=node)


def build_reader(config: Config) -> "FolderReader":
    """The reader of images and labels. Raises ConfigError unless it is one that conf/data lists."""
    node = plain(config.data.get("reader") or {})
    _check("data.reader", "data", "reader", node)
    for text in _leaves(node):
        if isinstance(text, str) and (PurePath(text).is_absolute() or ".." in PurePath(text).parts):
            raise ConfigError(f"data.reader: {text[:60]!r} leads out of the folder of the data")
    try:
        return _made("data.reader", node)
    except (ValueError, TypeError, OverflowError) as e:
        raise ConfigError(f"data.reader: {str(e).splitlines()[0]}") from e


def _made(path: str, node: Any) -> Any:
    """The object of a node that was checked."""
    if isinstance(node, list):
        return [_made(path, item) for item in node]
    if not isinstance(node, Mapping):
        return node
    arguments = {key: _made(path, value) for key, value in node.items() if key != "_target_"}
    return target(node, path)(**arguments) if "_target_" in node else arguments


def _check(path: str, group: str, key: str, node: Any) -> None:
    if not isinstance(node, Mapping):
        raise ConfigError(f"{path}: accepted is a constructor and its arguments")
    _check_names(path, "", node, listed(group, key))
    check_arguments(path, node)


def _check_names(path: str, place: str, node: Any, known: Mapping[str, set[str]]) -> None:
    """Raises ConfigError for a constructor that conf/ does not list at this place, and for what Hydra would resolve."""
    if isinstance(node, list):
        for i, item in enumerate(node):
            _check_names(f"{path}[{i}]", f"{place}[]", item, known)
    elif isinstance(node, Mapping):
        for key, item in node.items():
            if key == "_target_":
                _check_name(path, item, known.get(place, set()))
            elif str(key).startswith("_"):  # Hydra's own, as _args_
                raise ConfigError(f"{path}.{str(key)[:40]}: no such key in the config of a run folder")
            else:
                _check_names(f"{path}.{str(key)[:40]}", f"{place}.{key}", item, known)
    elif isinstance(node, str) and "${" in node:
        raise ConfigError(f"{path}={node[:60]!r}: a run folder keeps values, not where they come from")


def _check_name(path: str, name: Any, known: set[str]) -> None:
    if isinstance(name, str) and (name in known or name.startswith(added())):
        return
    accepted = ", ".join(sorted(known)) or "a plain value"
    raise ConfigError(
        f"{path}._target_={repr(name)[:80]}: in the config of a run folder, accepted is {accepted}"
        " (others with --trust PACKAGE)"
    )


@cache
def listed(group: str, key: str = "") -> dict[str, set[str]]:
    """The constructors that the files of conf/<group> name, by their place in the node `key` of the file."""
    from seglab.config.compose import CONF  # it imports constructors

    out: dict[str, set[str]] = {}
    for path in sorted((CONF / group).rglob("*.yaml")):
        content = yaml.safe_load(path.read_text()) or {}
        for place, name in _names("", content.get(key) if key else content):
            out.setdefault(place, set()).add(name)
    return out


def _names(place: str, node: Any) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield place, node["_target_"]
        for key, item in node.items():
            yield from _names(f"{place}.{key}", item)
    elif isinstance(node, list):
        for item in node:
            yield from _names(f"{place}[]", item)


def _leaves(node: Any) -> Iterator[Any]:
    """Every key, and every value that is neither a list nor a mapping."""
    if isinstance(node, Mapping):
        for key, item in node.items():
            yield key
            yield from _leaves(item)
    elif isinstance(node, list):
        for item in node:
            yield from _leaves(item)
    else:
        yield node
