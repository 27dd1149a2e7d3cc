"""What a valid configuration is, and the one line that a wrong one gets."""

import difflib
import importlib
import inspect
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)

TRUSTED = ("seglab.", "torch.optim.", "albumentations.", "pytorch_lightning.")
"""Packages whose classes and functions a config may name: a config from elsewhere must not run what it likes."""

INJECTED = {
    "model": {"num_classes"},
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


class ConfigError(ValueError):
    """One line: the key, its value, and what would have been accepted."""


class Root(BaseModel):
    """The keys of conf/train.yaml."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: dict[str, Any]
    loss: dict[str, Any]
    data: dict[str, Any]
    trainer: dict[str, Any]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"), BeforeValidator(str)]
    epochs: PositiveInt
    seed: NonNegativeInt
    precision: Annotated[Literal["auto", "32", "bf16-mixed", "16-mixed"], BeforeValidator(str)]
    compile: bool
    score_train: bool
    pictures: NonNegativeInt
    picture_every: PositiveInt
    pr_curves: bool
    checkpoint_every_steps: PositiveInt | None
    checkpoint_every_minutes: Annotated[float, Field(gt=0)] | None
    threads: PositiveInt | None
    share: bool
    on_error: Literal["continue", "stop"]
    marks: list[PositiveInt] | None
    output_dir: str
    profile: bool = False
    benchmark: bool = False
    names: dict[str, str] = {}


def check(config: Mapping[str, Any]) -> None:
    """Raises ConfigError if the resolved config has an unknown key, lacks one, or holds a value of a wrong type."""
    try:
        Root.model_validate(dict(config))
    except ValidationError as e:
        raise ConfigError(_line(e, list(Root.model_fields))) from None
    for part in ("model", "loss", "data", "trainer", "optimizer", "schedule"):
        _check_node(part, config[part], INJECTED.get(part, set()))


def target(node: Mapping[str, Any], path: str) -> Callable:
    """The class or function that `_target_` names. Raises ConfigError unless it is one of a trusted package."""
    name = node["_target_"]
    accepted = f"accepted is a class or function of {', '.join(t.rstrip('.') for t in TRUSTED)}"
    if not isinstance(name, str) or not name.startswith(TRUSTED):
        raise ConfigError(f"{path}._target_={name!r}: {accepted}")
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        raise ConfigError(f"{path}._target_={name!r}: there is no such thing; {accepted}") from None
    # `seglab.config.schema.importlib` is reachable by name, but is nobody's class
    if not (inspect.isclass(found) or inspect.isfunction(found)) or not f"{found.__module__}.".startswith(TRUSTED):
        raise ConfigError(f"{path}._target_={name!r}: {accepted}")
    return found


def did_you_mean(word: str, accepted: Iterable[str]) -> str:
    """`did you mean x? accepted are ...`, or only the latter."""
    names = sorted(accepted)
    close = difflib.get_close_matches(word, names, 1, 0.5)
    return (f"did you mean {close[0]}? " if close else "") + f"accepted are {', '.join(names)}"


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
        raise ConfigError(f"{path}={json.dumps(value)}: accepted is {_words(hint)}") from None


def _words(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return " or ".join(_words(a) for a in arguments)
    if arguments:
        origin = getattr(typing.get_origin(hint), "__name__", str(hint))
        return f"{origin}[{', '.join(_words(a) for a in arguments)}]"
    return "null" if hint is type(None) else getattr(hint, "__name__", str(hint))


def _line(error: ValidationError, accepted: list[str]) -> str:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"{key}: no such key; {did_you_mean(key, accepted)}"
    if first["type"] == "missing":
        return f"{key} is missing"
    return f"{key}={first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
