"""Settings in which cells differ, environments, commands, missing cells, and the labellers' ceiling."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt

from seglab.config.schema import PARTS, flat, plain
from seglab.report.study import Entry, Table, cell_name
from seglab.run.folder import DONE
from seglab.run.reading import MOST_BYTES, RecordError, json_object
from seglab.run.shapes import Known, Score

MOST_PLACES = 10_000
"""Places of a grid of which the empty ones are named."""


@dataclass(frozen=True)
class Differences:
    """Keys whose values differ, each cell's values of them, and the settings that all cells share."""

    keys: list[str]
    rows: list[tuple[str, list[str]]]
    common: list[tuple[str, str]]


def differences(entries: Sequence[Entry]) -> Differences:
    """Differences between the configs of cells; a dash for a key that a cell lacks."""
    configs = [flat(plain(e.config.select(lambda role: role.shown)) | _places(e)) for e in entries]
    keys = list(dict.fromkeys(k for c in configs for k in c))
    differs = [k for k in keys if any(k not in c or c[k] != configs[0][k] for c in configs)]
    rows = [(e.cell.folder, [_text(c, k) for k in differs]) for e, c in zip(entries, configs, strict=True)]
    common = [(k, _text(configs[0], k)) for k in keys if k not in differs] if configs else []
    return Differences(differs, rows, common)


def _places(entry: Entry) -> dict[str, Any]:
    """The parts in full, and names: `select` leaves out where the data are."""
    return {name: plain(getattr(entry.config, name)) for name in PARTS} | {"names": dict(entry.config.names)}


def _text(config: dict[str, Any], key: str) -> str:
    if key not in config:
        return "–"  # noqa: RUF001
    value = config[key]
    return value if isinstance(value, str) else json.dumps(value, default=str)


HASHES = ("settings", "data", "code", "finished", "original_size")
"""Facts of an environment that tell a reader nothing by themselves."""


def environments(entries: Sequence[Entry]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Facts about the environments of cells, each with its values and the number of cells that have them."""
    facts: dict[str, dict[str, int]] = {}
    for e in entries:
        try:
            found = flat(e.run.environment())
        except (OSError, ValueError):
            continue
        for key, value in found.items():
            if key in HASHES:
                continue
            counts = facts.setdefault(str(key), {})
            counts[str(value)] = counts.get(str(value), 0) + 1
    return [(key, sorted(values.items())) for key, values in facts.items()]


def commands(entries: Sequence[Entry]) -> list[str]:
    """Commands that trained these cells, each once."""
    return list(dict.fromkeys(filter(None, map(_command, entries))))


def _command(entry: Entry) -> str | None:
    try:
        return entry.run.command()
    except (OSError, ValueError):
        return None  # the page has no place for what nobody can type


def unfinished(table: Table) -> list[tuple[str, str, str]]:
    """Name, state and reason of every cell without a score and of every cell that is missing in the grid."""
    out = [
        (e.name, e.cell.status if e.cell.status != DONE else "no score", str(e.cell.results.get("reason", "")))
        for e in table.entries
        if not e.done
    ]
    cells = [e.cell for e in table.entries]
    there = {(c.loss, c.epochs, c.seed) for c in cells}
    axes = [dict.fromkeys(sorted(getattr(c, axis) for c in cells)) for axis in ("loss", "epochs", "seed")]
    grid = product(*axes) if math.prod(map(len, axes)) <= MOST_PLACES else ()  # else these are no cells of one grid
    for loss, epochs, seed in grid:
        if (loss, epochs, seed) not in there:
            name = cell_name(loss, epochs, seed, len({c.seed for c in cells}))
            out.append((name, "missing", "not trained in this study"))
    return out


class Agreement(Known):
    """The part of an audit's ceiling.json that is drawn in."""

    miou: Score
    iou: dict[str, Score] | None
    agreement: Score = None
    pixels: NonNegativeInt | None = None


def ceiling(study: Path, audit: Path | None) -> dict[str, Any] | None:
    """The labellers' agreement that an audit measured: `miou`, `iou`, `agreement`, `pixels`; None if there is none.

    Raises ValueError for a file that is not such a record, FileNotFoundError if `audit` is given and has no file.
    """
    path = (audit or study / "audit") / "ceiling.json"
    if not path.is_file():
        if audit:
            raise FileNotFoundError(f"{path}: no such file; `seglab audit` writes it where two labellings share ground")
        return None
    try:
        found = json_object(path, audit or study, Agreement, MOST_BYTES)
    except RecordError as e:
        raise ValueError(f"{e}; expected miou and iou by class") from e
    return found if found["miou"] is not None and found["iou"] is not None else None
