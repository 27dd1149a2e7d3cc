"""Tables of numbers over epochs: metrics.csv, times.csv, and the scores that counts.csv adds to the former."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from seglab.run.reading import RecordError, table
from seglab.scores import SCORES, keys, scores

LARGEST, SMALLEST = 3.5e38, 1e-46
"""Bounds of a finite number of 32 bits, as every training computes them; larger ones are not ours and break axes."""

MOST_EPOCHS = 10**7
SCORED = ("val", "train_scored")
"""Stages whose scores are shares."""


def dictionaries(path: Path, folder: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by column; none where there is no file. Raises RecordError."""
    if not path.exists():
        return []
    head, rows = table(path, folder)
    if "epoch" in head:
        at = head.index("epoch")
        _check_epochs(path, [row[at] for row in rows])
    return [dict(zip(head, row, strict=True)) for row in rows]


def _check_epochs(path: Path, column: Iterable[str]) -> None:
    before = 0
    for field in column:
        if not (field.isascii() and field.isdigit() and len(field) < 9 and before <= int(field) <= MOST_EPOCHS):
            raise RecordError(f"{path}: {field[:20]!r} is no epoch after {before}")
        before = int(field)


def floats(path: Path, rows: Iterable[Mapping[str, str]]) -> list[dict[str, float]]:
    """The same rows as numbers, an empty field as NaN. Raises RecordError for what no training writes."""
    found = [{name: _number(path, name, field) for name, field in row.items()} for row in rows]
    if found and path.name == "metrics.csv" and not {"epoch", "val/miou"} <= found[0].keys():
        raise RecordError(f"{path}: columns {list(found[0])[:3]}...; expected epoch, val/miou and others")
    return found


def _number(path: Path, name: str, field: str) -> float:
    try:
        value = float(field or "nan")
    except ValueError:
        raise RecordError(f"{path}: {name[:40]}={field[:20]!r} is no number") from None
    size = abs(value)
    if math.isfinite(value) and size and not SMALLEST <= size <= LARGEST:
        raise RecordError(f"{path}: {name[:40]}={field[:20]} is no number that a training computes")
    if _is_share(name) and not (math.isnan(value) or 0 <= value <= 1 + 1e-6):
        raise RecordError(f"{path}: {name[:40]}={field[:20]} is no share")
    return value


def _is_share(name: str) -> bool:
    stage, _, key = name.partition("/")
    return stage in SCORED and key.partition("/")[0] in {score.name for score in SCORES}


def with_newer_scores(
    rows: list[dict[str, str]], counts: Iterable[Mapping[str, str]], path: Path
) -> list[dict[str, str]]:
    """The rows of metrics.csv with the scores that they lack, of the counts of the file `path`."""
    counted = {(row.get("epoch"), row.get("stage")): row for row in counts}
    for (epoch, stage), row in counted.items():
        pairs = [text for text in row if text not in ("epoch", "stage")]
        names = [text[: (len(text) - 4) // 2] for text in pairs if _is_diagonal(text)]
        for mine in (r for r in rows if r.get("epoch") == epoch):
            if any(f"{stage}/{key}" not in mine for score in SCORES for key in keys(score, names)):
                matrix = _matrix(path, [row[pair] for pair in pairs], len(names))
                known = {f"{stage}/{k}": "" if v != v else str(v) for k, v in scores(matrix, names).items()}
                mine |= {k: v for k, v in known.items() if k not in mine}
    return rows


def _matrix(path: Path, fields: list[str], classes: int) -> np.ndarray:
    if len(fields) != classes**2 or not all(f.isascii() and f.isdigit() and len(f) < 16 for f in fields):
        raise RecordError(f"{path}: expected epoch, stage and whole counts of K x K pairs of classes")
    return np.array(fields, np.int64).reshape(classes, classes)


def _is_diagonal(text: str) -> bool:
    name = text[: (len(text) - 4) // 2]
    return text == f"{name} as {name}"
