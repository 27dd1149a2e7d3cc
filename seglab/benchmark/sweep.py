"""Benchmark of several combinations: the choice of those that a sweep measures, and their table."""

from collections.abc import Mapping, Sequence
from typing import Any

from seglab.benchmark.benchmark import sweep_table
from seglab.config.schema import ROLES, Config, ConfigError
from seglab.pages.markdown import markdown_table
from seglab.run.folder import DONE

Job = tuple[Sequence[str], Config]
"""Overrides, and the config that they make."""

UNMEASURED = {
    name: Config.model_fields[name].default
    for name, role in ROLES.items()
    if (not role.weights or name == "seed") and name not in ("threads", "profile", "names")
}
"""Fields that change no speed."""


def distinct(jobs: Sequence[Job], launcher: str) -> list[Job]:
    """Jobs without those that would repeat a measurement. Raises ConfigError if they can't be measured."""
    if not all(config.benchmark for _, config in jobs):
        raise ConfigError("benchmark=true,false: accepted is one of them in a sweep")
    if "basic" not in launcher:
        raise ConfigError("benchmark=true with hydra/launcher: it measures one after the other; accepted is basic")
    seen: list[Config] = []
    out = []
    for overrides, config in jobs:
        measured = config.but(**UNMEASURED)
        if measured not in seen:
            seen.append(measured)
            out.append((overrides, config))
    return out


def show(overrides: Sequence[Sequence[str]], results: Sequence[Mapping[str, Any]]) -> None:
    """Prints a row for each combination. Raises SystemExit if one has no numbers."""
    same = set.intersection(*map(set, overrides))
    labels = [" ".join(o for o in own if o not in same) or "as asked" for own in overrides]
    print(f"\n{markdown_table(sweep_table(dict(zip(labels, results, strict=True))))}\n")
    missing = [(label, r) for label, r in zip(labels, results, strict=True) if r["status"] != DONE]
    for label, result in missing:
        print(f"{result['status']}: {label}: {result['reason']}")
    if missing:
        raise SystemExit(f"{len(missing)} of {len(results)} combinations have no numbers, see above")
