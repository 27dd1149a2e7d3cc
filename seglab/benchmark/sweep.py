"""Benchmark of several combinations: the choice of those that a sweep measures, and their table."""

from collections.abc import Mapping, Sequence
from typing import Any

from seglab.benchmark.benchmark import sweep_table
from seglab.config.parts import BOOKKEEPING
from seglab.config.schema import ConfigError
from seglab.pages.markdown import markdown_table
from seglab.run.folder import DONE
from seglab.sweep.plan import Job


def distinct(jobs: Sequence[Job], launcher: str) -> list[Job]:
    """Jobs without those that would repeat a measurement. Raises ConfigError if they can't be measured."""
    if not all(config["benchmark"] for _, config in jobs):
        raise ConfigError("benchmark=true,false: accepted is one of them in a sweep")
    if "basic" not in launcher:
        raise ConfigError("benchmark=true with hydra/launcher: it measures one after the other; accepted is basic")
    seen: list[dict[str, Any]] = []
    out = []
    for overrides, config in jobs:
        left_alone = set(BOOKKEEPING) - {"threads", "profile", "names"}
        counts = {k: v for k, v in config.items() if k not in left_alone and k != "seed"}
        if counts not in seen:
            seen.append(counts)
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
