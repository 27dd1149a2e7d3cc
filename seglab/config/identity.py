"""The facts that determine a cell's weights, and their hash."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seglab.config.code import code_hash
from seglab.config.constructors import targets
from seglab.config.schema import Config, plain
from seglab.machine.environment import COMPUTING, computing_device, computing_versions
from seglab.machine.precision import resolved_precision

WEIGHT_FILES = ("weights", "encoder_weights")
"""Arguments of a model that may be the path of a file."""

WORDS = {"settings": "settings or weight files", "data": "content of the data", "code": "code", "versions": "libraries",
         "device": "device", "precision": "precision"}  # fmt: skip
"""Words of a reader for each fact."""


@dataclass(frozen=True)
class Identity:
    """All that determines a run's weights after any number of epochs.

    `settings`: hash of the config's fields that decide weights, and of the content of weight files; `data`: hash of
    the content of the data; `code`: hash of the files that compute; `versions` of the libraries that compute.
    `device` and `precision` are None, or `auto`, where another process decides them: the one that will train.
    """

    settings: str
    data: str
    code: str
    versions: Mapping[str, str]
    precision: str
    device: str | None

    @property
    def key(self) -> str:
        """The hash of all facts."""
        return _hash(self.facts)

    @property
    def facts(self) -> dict[str, Any]:
        """Every fact by its name."""
        return {name: getattr(self, name) for name in WORDS}

    def differs(self, other: "Identity") -> list[str]:
        """Names of the facts that are not those of the other; what is not decided yet differs from nothing."""
        undecided = {None, "auto"}
        pairs = {name: (value, other.facts[name]) for name, value in self.facts.items()}
        return [name for name, (a, b) in pairs.items() if a != b and not (isinstance(a, str | None) and a in undecided)]

    @property
    def decided(self) -> bool:
        """True if it is that of a process that trains."""
        return self.device is not None


def here(config: Config, threads: int, gpu: int = 0) -> Config:
    """The config with what this process decides: precision, by this one of its GPUs, and the number of CPU threads."""
    precision = resolved_precision(config.precision, config.accelerator, gpu)
    return config.but(precision=precision, threads=config.threads or threads)


def identity(config: Config, data: str, gpu: int = 0) -> Identity:
    """The identity of a config that trains in this process, on this one of its GPUs, on data of this content."""
    facts = config.select(lambda role: role.weights)
    precision = facts.pop("precision")
    code = code_hash({made.__module__ for node in facts.values() for made in targets(node)})
    device = computing_device(config.accelerator, config.threads, gpu)
    found = Identity(_hash(facts | _weight_files(config)), data, code, computing_versions(), precision, device)
    return replace(found, precision=resolved_precision(precision, config.accelerator, gpu))


def elsewhere(config: Config, data: str) -> Identity:
    """The same for a training whose device another process decides."""
    return replace(identity(config, data), device=None, precision=config.precision)


def recorded(environment: Mapping[str, Any], config: Config) -> Identity:
    """The identity that a run folder tells by its environment.json and its config; a fact it lacks is empty."""
    versions = environment.get("versions") or {}
    return Identity(
        settings=str(environment.get("settings", "")),
        data=str(environment.get("data", "")),
        code=str(environment.get("code", "")),
        versions={name: versions[name] for name in COMPUTING if name in versions},
        precision=config.precision,
        device=environment.get("device"),
    )


def _weight_files(config: Config) -> dict[str, Any]:
    """The settings of the model with the content of weight files in the place of their paths."""
    paths = {k: Path(v) for k, v in config.model.items() if k in WEIGHT_FILES and isinstance(v, str)}
    contents = {k: hashlib.sha256(path.read_bytes()).hexdigest() for k, path in paths.items() if path.is_file()}
    return {"model": {**config.model, **contents}}


def _hash(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain(facts), sort_keys=True).encode()).hexdigest()
