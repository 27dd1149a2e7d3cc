"""A study in three small text files: everything that tables and charts are made of, without weights and pictures."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, NonNegativeInt

from seglab.machine.files import write_whole
from seglab.run.evaluations import COUNTS
from seglab.run.folder import Run, runs_of
from seglab.run.reading import MOST_BYTES, RecordError, json_object, table

RUNS, COUNTS_OF_IMAGES, METRICS = "runs.json", "counts.csv", "metrics.csv"
VALIDATION = "validation"
RUN, FILE = "run", "file"
PLACES = ("output_dir", "cache_dir")
FACTS = ("python", "versions", "settings", "data", "code", "device", "deterministic", "original_size", "resolution")
"""What is kept of environment.json: not the machine's name and system."""


class Packed(BaseModel):
    """One run of runs.json."""

    model_config = ConfigDict(extra="forbid", strict=True)

    config: dict[str, Any]
    environment: dict[str, Any]
    results: dict[str, Any]
    evaluations: dict[str, dict[str, Any]]
    metrics_of: str
    """the run whose metrics begin with those of this one"""
    epochs: NonNegativeInt
    """so many of them"""


class PackedRuns(BaseModel):
    """The content of runs.json."""

    model_config = ConfigDict(extra="forbid", strict=True)

    runs: dict[str, Packed]


def pack(study: Path, out: Path) -> list[Path]:
    """Writes the finished runs of a study into a folder; the paths of its files.

    Raises RecordError, and FileNotFoundError where no run is finished.
    """
    runs = [run for run in runs_of(study) if run.done]
    if not runs:
        raise FileNotFoundError(f"{study}: no finished run in it; accepted is a folder such as outputs/default")
    longest: dict[str, Run] = {}  # of each identity
    for run in sorted(runs, key=_epochs):
        longest[_identity(run)] = run
    told = {run.folder.name: _told(run, longest[_identity(run)]) for run in runs}
    out.mkdir(parents=True, exist_ok=True)
    files = {
        RUNS: json.dumps({"runs": told}, indent=1, ensure_ascii=False),
        COUNTS_OF_IMAGES: _csv([row for run in runs for row in _counts(run)]),
        METRICS: _csv([{RUN: run.folder.name} | row for run in longest.values() for row in _rows(run.metrics_file)]),
    }
    for name, text in files.items():
        write_whole(out / name, text)
    return [out / name for name in files]


def unpack(packed: Path, study: Path) -> list[Run]:
    """Writes the run folders that `pack` read, as far as it kept them, into a folder that has none yet.

    Raises RecordError for files that are not its own, and FileExistsError.
    """
    runs = PackedRuns.model_validate(json_object(packed / RUNS, packed, PackedRuns, MOST_BYTES)).runs
    if study.exists() and any(study.iterdir()):
        raise FileExistsError(f"{study}: not empty; accepted is a new folder")
    counts = _by_run(packed / COUNTS_OF_IMAGES, packed)
    metrics = _by_run(packed / METRICS, packed)
    for name, found in runs.items():
        if not name or Path(name).name != name or name.startswith("."):
            raise RecordError(f"{packed / RUNS}: {name!r} is no name of a run folder")
        run = Run(study / name)
        run.folder.mkdir(parents=True)
        write_whole(run.config_file, yaml.safe_dump(found.config, sort_keys=False, allow_unicode=True))
        run.write_environment(found.environment)
        write_whole(run.metrics_file, _csv(metrics.get(found.metrics_of, [])[: found.epochs]))
        for file, content in {VALIDATION: None, **found.evaluations}.items():
            _write_counts(run, file, content, [row for row in counts.get(name, []) if row[FILE] == file])
        run.write_results(found.results)
    return list(runs_of(study))


def _epochs(run: Run) -> int:
    return len(_rows(run.metrics_file))


def _identity(run: Run) -> str:
    return str(run.results().get("identity") or run.folder.name)


def _told(run: Run, longest: Run) -> dict[str, Any]:
    results = {k: v for k, v in run.results().items() if k != "environment"}
    evaluations = {path.stem: run.evaluations.read(path) for path in sorted(run.evaluations.folder.glob("*.json"))}
    environment = {k: v for k, v in run.environment().items() if k in FACTS}
    own = {"config": _without_places(run.config()), "environment": environment}
    own |= {"results": results, "evaluations": evaluations}
    return own | {"metrics_of": longest.folder.name, "epochs": _epochs(run)}


def _without_places(value: Any) -> Any:
    """The same config without folders of the machine; `data.root`, which names the data, stays."""
    if not isinstance(value, Mapping):
        return value
    return {k: _without_places(v) for k, v in value.items() if k not in PLACES}


def _counts(run: Run) -> Iterator[dict[str, str]]:
    files = {VALIDATION: run.records.validation_file}
    files |= {p.stem.removesuffix(f"_{COUNTS}"): p for p in sorted(run.evaluations.folder.glob(f"*_{COUNTS}.csv"))}
    for name, path in files.items():
        yield from ({RUN: run.folder.name, FILE: name} | row for row in _rows(path, run.folder))


def _write_counts(run: Run, file: str, content: Mapping[str, Any] | None, rows: Sequence[Mapping[str, str]]) -> None:
    text = _csv([{k: v for k, v in row.items() if k not in (RUN, FILE)} for row in rows])
    if content is None:
        if rows:
            write_whole(run.records.validation_file, text)
        return
    if Path(file).name != file:
        raise RecordError(f"{run.folder}: {file!r} is no name of an evaluation")
    run.evaluations.folder.mkdir(exist_ok=True)
    write_whole(run.evaluations.folder / f"{file}.json", json.dumps(content, indent=2))
    if rows:  # evaluations of earlier versions kept none
        write_whole(run.evaluations.folder / f"{file}_{COUNTS}.csv", text)


def _rows(path: Path, folder: Path | None = None) -> list[dict[str, str]]:
    """The rows of a CSV file by column; none where there is no file. Raises RecordError."""
    if not path.exists():
        return []
    head, rows = table(path, folder or path.parent)
    return [dict(zip(head, row, strict=True)) for row in rows]


def _by_run(path: Path, folder: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of each run, without the columns that it left empty."""
    out: dict[str, list[dict[str, str]]] = {}
    for row in _rows(path, folder):
        out.setdefault(row.pop(RUN, ""), []).append(row)
    return {run: _without_empty(rows) for run, rows in out.items()}


def _without_empty(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The same rows without columns that are empty in each: those of other runs."""
    kept = [k for k in rows[0] if k in ("scene", FILE) or any(row[k] for row in rows)]
    return [{k: row[k] for k in kept} for row in rows]


def _csv(rows: Sequence[Mapping[str, str]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(k for row in rows for k in row)), lineterminator="\n")
    if rows:
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue()
