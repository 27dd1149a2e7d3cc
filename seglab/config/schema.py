"""The config as one typed, frozen object: each field says what it decides, and a wrong value is one line."""

import difflib
import os.path
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)


class ConfigError(ValueError):
    """One line: the key, its value, and what would have been accepted."""


@dataclass(frozen=True)
class Role:
    """Role of a field. `but`: keys of its node that only say where things are or how they are computed."""

    weights: bool = False
    """the weights of a training: part of its identity"""
    axis: bool = False
    """a direction of the grid: the cells of one table differ in it"""
    shown: bool = True
    """a reader of a report wants to know it"""
    but: tuple[str, ...] = ()


SETTING = Role(weights=True)
"""Decides weights; the cells of one table agree in it."""
AXIS = Role(weights=True, axis=True)
"""Decides weights; the cells of one table differ in it."""
LENGTH = Role(axis=True)
"""The number of epochs: an axis, of which cells of one identity share the beginning."""
RECORD = Role()
"""Decides which files are written, or how a sweep proceeds."""
PLACE = Role(shown=False)
"""Says where something lies, or concerns one command only."""


class Part(dict):
    """A node of the config that names a constructor and its arguments; it can't be changed."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a config can't be changed")

    __setitem__ = __delitem__ = __ior__ = _refuse  # type: ignore[assignment]
    clear = pop = popitem = setdefault = update = _refuse  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Part, (dict(self),)


def frozen(value: Any) -> Any:
    """The same value of which nothing can be changed: dictionaries as Parts, lists as tuples."""
    if isinstance(value, Mapping):
        return Part({k: frozen(v) for k, v in value.items()})
    return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value


def plain(value: Any) -> Any:
    """The same value as dictionaries and lists of its own."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def _text(value: Any) -> Any:
    """A number as text; no value stays none."""
    return value if value is None else str(value)


Node = Annotated[dict[str, Any], AfterValidator(frozen)]
Folder = Annotated[str, BeforeValidator(str), AfterValidator(os.path.expanduser)]
Study = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"), BeforeValidator(_text)]


class Names(BaseModel):
    """The file chosen of each group."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = ""
    loss: str = ""
    data: str = ""
    trainer: str = ""


class Config(BaseModel):
    """The keys of conf/train.yaml, which holds the same defaults."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: Annotated[Node, SETTING] = Part()
    loss: Annotated[Node, AXIS] = Part()
    data: Annotated[Node, Role(weights=True, but=("root", "cache_dir", "num_workers", "cache", "verify"))] = Part()
    # the device itself, which `accelerator` finds, is a fact of its own in an identity
    trainer: Annotated[Node, Role(weights=True, but=("accelerator",))] = Part()
    optimizer: Annotated[Node, SETTING] = Part()
    schedule: Annotated[Node, SETTING] = Part()
    study: Annotated[Study, PLACE] = "default"
    epochs: Annotated[Annotated[PositiveInt, Field(le=1_000_000)], LENGTH] = 10
    seed: Annotated[Annotated[NonNegativeInt, Field(le=2**63 - 1)], AXIS] = 0
    precision: Annotated[Literal["auto", "32", "bf16-mixed", "16-mixed"], BeforeValidator(str), SETTING] = "auto"
    compile: Annotated[bool, SETTING] = False
    score_train: Annotated[bool, RECORD] = False
    pictures: Annotated[NonNegativeInt, RECORD] = 4
    picture_every: Annotated[PositiveInt, RECORD] = 10
    maps: Annotated[NonNegativeInt | None, RECORD] = 1000
    pr_curves: Annotated[bool, RECORD] = False
    profile: Annotated[bool, PLACE] = False
    benchmark: Annotated[bool, PLACE] = False
    # the number of threads moves last bits: the device of an identity names it
    threads: Annotated[Annotated[PositiveInt, Field(le=1024)] | None, RECORD] = None
    checkpoint_every_steps: Annotated[PositiveInt | None, RECORD] = None
    checkpoint_every_minutes: Annotated[Annotated[float, Field(gt=0)] | None, RECORD] = None
    share: Annotated[bool, RECORD] = True
    on_error: Annotated[Literal["continue", "stop"], RECORD] = "continue"
    marks: Annotated[list[PositiveInt] | None, PLACE] = None
    output_dir: Annotated[Folder, PLACE] = "outputs"
    names: Annotated[Names, RECORD] = Names()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The config of plain values. Raises ConfigError for an unknown key or a value of a wrong type."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as e:
            raise ConfigError(_line(e, list(cls.model_fields))) from None

    def but(self, **changes: Any) -> Self:
        """The same config with other values of some fields."""
        return self.model_copy(update={k: frozen(v) if k in PARTS else v for k, v in changes.items()})

    def plain(self) -> dict[str, Any]:
        """Dictionaries and lists of its own, as a run folder keeps them."""
        return plain({name: getattr(self, name) for name in type(self).model_fields} | {"names": dict(self.names)})

    def select(self, wanted: Callable[[Role], bool]) -> dict[str, Any]:
        """The fields of wanted roles, without those keys of a node that are not what the node's role says."""
        found = {name: getattr(self, name) for name, role in ROLES.items() if wanted(role)}
        return {n: {k: v for k, v in value.items() if k not in ROLES[n].but} if n in PARTS else value
                for n, value in found.items()}  # fmt: skip

    @property
    def classes(self) -> dict[str, str]:
        """Class names and their colours. Raises ConfigError where they are none."""
        found = self.data.get("classes")
        if not isinstance(found, Mapping) or not all(isinstance(v, str) for kv in found.items() for v in kv):
            raise ConfigError(f"data.classes={found!r}: accepted are names and colours")
        return dict(found)

    @property
    def bands(self) -> list[int] | None:
        """Bands of rasters that are images, counted from 1; None of data that are RGB of 8 bits. Raises ConfigError."""
        found = self.data.get("bands")
        if found is None:
            return None
        whole = isinstance(found, Sequence) and all(type(band) is int and band > 0 for band in found)
        if not whole or not found:
            raise ConfigError(f"data.bands={plain(found)!r}: accepted is a list of band numbers, counted from 1")
        return list(found)

    @property
    def accelerator(self) -> str:
        """The device that is asked for: auto, cpu, gpu ..."""
        return str(self.trainer.get("accelerator", "auto"))

    @property
    def together(self) -> bool:
        """True if several processes train one cell."""
        return "ddp" in str(self.trainer.get("strategy"))


PARTS = ("model", "loss", "data", "trainer", "optimizer", "schedule")


def _role(name: str) -> Role:
    found = [m for m in Config.model_fields[name].metadata if isinstance(m, Role)]
    if len(found) != 1:
        raise TypeError(
            f"Config.{name} has {len(found)} roles: expected Annotated[type, RECORD], or SETTING, PLACE ..."
        )
    return found[0]


ROLES: dict[str, Role] = {name: _role(name) for name in Config.model_fields}
"""The role of each field."""


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, its keys joined by dots."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    parts = (flat(v, f"{prefix}.{k}" if prefix else str(k)) for k, v in value.items())
    return {k: v for part in parts for k, v in part.items()}


def did_you_mean(word: str, accepted: Iterable[str]) -> str:
    """`did you mean x? accepted are ...`, or only the latter."""
    names = sorted(accepted)
    close = difflib.get_close_matches(word, names, 1, 0.5)
    return (f"did you mean {close[0]}? " if close else "") + f"accepted are {', '.join(names)}"


def _line(error: ValidationError, accepted: list[str]) -> str:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"{key}: no such key; {did_you_mean(key, accepted)}"
    return f"{key}={first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
