"""The constructors that a config names: which may be named, and which arguments they take."""

import importlib
import inspect
import json
import os
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from seglab.config.schema import PARTS, Config, ConfigError, did_you_mean, plain
from seglab.machine.imports import without_collection

TRUSTED = ("seglab.", "torch.optim.", "albumentations.", "pytorch_lightning.")
"""Packages whose classes and functions a user's own config may name; a run folder's may name fewer, see `foreign`."""

TRUST = "SEGLAB_TRUST"
"""Environment variable with further packages that the user trusts, joined by commas; `--trust` adds to it."""

INJECTED = {
    "model": {"num_classes", "in_channels"},
    "data": {"seed", "score_train"},
    "optimizer": {"params"},
    "trainer": {
        "max_epochs",
        "precision",
        "callbacks",
        "enable_progress_bar",
        "logger",
        "enable_checkpointing",
        "enable_model_summary",
        "num_sanity_val_steps",
        "use_distributed_sampler",
        "profiler",
    },
}
"""Constructor arguments that the builder sets, so that no config can."""


def check(config: Config) -> None:
    """Raises ConfigError if a part names no constructor, or one that does not take the arguments given."""
    for part in PARTS:
        check_node(part, config)


def check_node(part: str, config: Config) -> None:
    """The same for one part."""
    check_arguments(part, plain(getattr(config, part)))


def check_arguments(path: str, node: Mapping[str, Any]) -> None:
    """Raises ConfigError if a node names no constructor, or one that does not take the arguments given."""
    if "_target_" not in node:
        raise ConfigError(f"{path}._target_ is missing: {path} must name a constructor")
    _check_node(path, node, INJECTED.get(path, set()))


def added() -> tuple[str, ...]:
    """Beginnings of the names in the packages that the user trusts besides TRUSTED."""
    return tuple(f"{name.strip().rstrip('.')}." for name in os.environ.get(TRUST, "").split(",") if name.strip(" ."))


@contextmanager
def trusting(packages: Iterable[str]) -> Iterator[None]:
    """Configs may name constructors of these packages meanwhile, in the processes started meanwhile, too."""
    before = os.environ.get(TRUST)
    os.environ[TRUST] = ",".join([*packages, *([before] if before else [])])
    try:
        yield
    finally:
        os.environ.pop(TRUST)
        if before is not None:
            os.environ[TRUST] = before


def target(node: Mapping[str, Any], path: str) -> Callable:
    """The class or function that `_target_` names. Raises ConfigError unless it is one of a trusted package."""
    name = node["_target_"]
    trusted = TRUSTED + added()
    accepted = f"accepted is a class or function of {', '.join(t.rstrip('.') for t in trusted)}"
    if not isinstance(name, str) or not name.startswith(trusted):
        raise ConfigError(f"{path}._target_={name!r}: {accepted}")
    module, _, attribute = name.rpartition(".")
    try:
        with without_collection():
            found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        raise ConfigError(f"{path}._target_={name!r}: there is no such thing; {accepted}") from None
    # `seglab.config.constructors.importlib` is reachable by name, but is nobody's class
    if not (inspect.isclass(found) or inspect.isfunction(found)) or not f"{found.__module__}.".startswith(trusted):
        raise ConfigError(f"{path}._target_={name!r}: {accepted}")
    return found


def targets(node: Any, path: str = "") -> Iterator[Callable]:
    """Every class and function that a node and what is in it name."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield target(node, path)
        for key, item in node.items():
            yield from targets(item, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list | tuple):
        for i, item in enumerate(node):
            yield from targets(item, f"{path}[{i}]")


def _check_node(path: str, node: Any, injected: frozenset[str] | set[str] = frozenset()) -> None:
    if isinstance(node, list):
        for i, item in enumerate(node):
            _check_node(f"{path}[{i}]", item)
    elif isinstance(node, Mapping) and "_target_" in node:
        _check_arguments(path, node, injected)
    elif isinstance(node, Mapping):
        for key, item in node.items():
            _check_node(f"{path}.{key}", item)


def _check_arguments(path: str, node: Mapping[str, Any], injected: Iterable[str]) -> None:
    made = target(node, path)
    parameters = inspect.signature(made).parameters
    hints = typing.get_type_hints(made.__init__ if inspect.isclass(made) else made)
    named = (name for name, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    accepted = [name for name in named if name not in injected]
    given = {k: v for k, v in node.items() if k not in ("_target_", "_partial_")}
    for key, value in given.items():
        if key not in accepted:
            raise ConfigError(f"{path}.{key}: no such key of {made.__name__}; {did_you_mean(key, accepted)}")
        _check_node(f"{path}.{key}", value)
        if not _holds_object(value):
            _check_value(f"{path}.{key}", value, hints.get(key, Any))
    missing = [n for n in accepted if n not in given and parameters[n].default is inspect.Parameter.empty]
    if missing:
        raise ConfigError(f"{path}.{missing[0]} is missing: {made.__name__} needs it")


def _holds_object(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "_target_" in value or any(_holds_object(v) for v in value.values())
    return isinstance(value, list) and any(_holds_object(v) for v in value)


def _check_value(path: str, value: Any, hint: Any) -> None:
    if value == "???":
        raise ConfigError(f"{path} must be given: {_words(hint)}")
    try:  # as JSON, since there a list is an acceptable tuple though a string is no acceptable number
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError:
        raise ConfigError(f"{path}={json.dumps(value)[:200]}: accepted is {_words(hint)}") from None


def _words(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return " or ".join(_words(a) for a in arguments if getattr(a, "__name__", "") != "Tensor")
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(str, arguments))
    if arguments:
        origin = getattr(typing.get_origin(hint), "__name__", str(hint))
        return f"{origin}[{', '.join(_words(a) for a in arguments)}]"
    return "null" if hint is type(None) else getattr(hint, "__name__", str(hint))
