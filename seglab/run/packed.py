"""A study in three small text files: everything that tables and charts are made of, without weights and pictures."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, NonNegativeInt

from seglab.machine.files import write_whole
from seglab.run.evaluations import COUNTS
from seglab.run.folder import Run, runs_of
from seglab.run.reading import MOST_BYTES, RecordError, json_object, table
from seglab.run.records import counts_head
from seglab.run.shapes import Environment, Evaluation, Results

RUNS, COUNTS_OF_IMAGES, METRICS = "runs.json", "counts.csv", "metrics.csv"
VALIDATION = "validation"
EVALUATION = "an evaluation"
RUN, FILE = "run", "file"
LONGEST = 200
"""Bytes of a name, to which endings are added."""
ABSENT = "nan"
"""An empty field of a run's own column; a column of other runs is empty."""
PLACES = ("output_dir", "cache_dir")
FACTS = (
    *("python", "versions", "settings", "data", "code", "device", "deterministic", "original_size", "resolution"),
    "finished",  # of two runs of one cell, the newer one counts
)
"""What is kept of environment.json: not the machine's name and system."""


class Packed(BaseModel):
    """One run of runs.json."""

    model_config = ConfigDict(extra="forbid", strict=True)

    config: dict[str, Any]
    environment: Environment
    results: Results
    evaluations: dict[str, Evaluation]
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
    if out.resolve().is_relative_to(study.resolve()) or Run(out).config_file.exists():
        raise ValueError(f"--out {out}: a place of run folders; accepted is a folder elsewhere, such as packed/default")
    for run in runs:
        _check_name(run.folder.name, run.folder)
    rows = {run.folder.name: _rows(run.metrics_file) for run in runs if run.metrics_file.exists()}
    sources = {run.folder.name: _source(run, runs, rows) for run in runs}
    told = {run.folder.name: _told(run, sources[run.folder.name], len(rows.get(run.folder.name, []))) for run in runs}
    metrics = [
        {RUN: name} | {k: v or ABSENT for k, v in row.items()}
        for name in dict.fromkeys(sources.values())
        for row in rows.get(name, [])
    ]
    files = {
        COUNTS_OF_IMAGES: _csv([row for run in runs for row in _counts(run)], [RUN, FILE]),
        METRICS: _csv(metrics, [RUN]),
        RUNS: json.dumps({"runs": told}, indent=1, ensure_ascii=False),
    }
    _check_sizes(out, files)
    out.mkdir(parents=True, exist_ok=True)
    (out / RUNS).unlink(missing_ok=True)  # written last: where it is, the tables are of the same study
    for name, text in files.items():
        write_whole(out / name, text)
    return [out / name for name in (RUNS, COUNTS_OF_IMAGES, METRICS)]


def unpack(packed: Path, study: Path) -> list[Run]:
    """Writes the run folders that `pack` read, as far as it kept them, into a folder that has none yet.

    Raises RecordError for files that are not its own, and FileExistsError. The folder is then as empty as before.
    """
    if not (packed / RUNS).is_file():
        raise FileNotFoundError(f"{packed}: no {RUNS} in it; accepted is a folder that seglab pack made")
    runs = json_object(packed / RUNS, packed, PackedRuns, MOST_BYTES)["runs"]
    if study.exists() and any(study.iterdir()):
        raise FileExistsError(f"{study}: not empty; accepted is a new folder")
    for name in runs:
        _check_name(name, packed / RUNS)
    counts = _by_run(packed / COUNTS_OF_IMAGES, packed, [RUN, FILE, "name", "scene"], runs)
    metrics = _by_run(packed / METRICS, packed, [RUN], runs)
    study.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".unpack", dir=study) as part:
        for name, found in runs.items():
            rows = metrics.get(found["metrics_of"], [])[: found["epochs"]]
            if len(rows) < found["epochs"]:
                many = f"{len(rows)} rows of {found['metrics_of']!r}"
                raise RecordError(f"{packed / METRICS}: {many}; {name!r} had {found['epochs']} epochs")
            _write(Run(Path(part) / name), found, rows, counts.get(name, []), packed / COUNTS_OF_IMAGES)
        for name in runs:
            (Path(part) / name).rename(study / name)
    return list(runs_of(study))


def _write(
    run: Run, found: Mapping[str, Any], metrics: list[dict[str, str]], counts: list[dict[str, str]], source: Path
) -> None:
    """Writes one run folder; `counts` come from the file `source`."""
    run.folder.mkdir()
    write_whole(run.config_file, yaml.safe_dump(found["config"], sort_keys=False, allow_unicode=True))
    run.write_environment(found["environment"])
    if metrics:
        own = [k for k, v in metrics[0].items() if any(row[k] for row in metrics)]
        write_whole(run.metrics_file, _csv([{k: row[k] if row[k] != ABSENT else "" for k in own} for row in metrics]))
    run.evaluations.folder.mkdir()
    paths = {VALIDATION: run.records.validation_file}
    for file, content in found["evaluations"].items():
        _check_name(file, source.with_name(RUNS), EVALUATION)
        write_whole(run.evaluations.folder / f"{file}.json", json.dumps(content, indent=2))
        paths[file] = run.evaluations.folder / f"{file}_{COUNTS}.csv"
    unknown = sorted({row[FILE] for row in counts} - paths.keys())
    if unknown:
        raise RecordError(f"{source}: counts of {unknown[0]!r}; {run.folder.name!r} has {', '.join(paths)}")
    columns = _columns(found["config"], counts, source)
    for file, path in paths.items():
        rows = [{k: row[k] for k in columns} for row in counts if row[FILE] == file]
        if rows:  # evaluations of earlier versions kept none
            write_whole(path, _csv(rows))
    run.write_results(found["results"])


def _columns(config: Mapping[str, Any], counts: list[dict[str, str]], source: Path) -> list[str]:
    """Columns of a run's counts in the order of its own classes, which other runs of the file may have in another."""
    data = config.get("data")
    classes = data.get("classes") if isinstance(data, dict) else None
    head = counts_head([*map(str, classes)]) if isinstance(classes, dict) else []
    filled = {k for row in counts for k, v in row.items() if v and k != FILE} | {"name", "scene"}
    if counts and filled != {*head}:
        wrong = sorted(filled ^ {*head})[0]
        raise RecordError(f"{source}: {wrong!r} is a column, or one of the pairs of data.classes, but not both")
    return head


def _check_name(name: str, where: Path, of: str = "a run folder") -> None:
    """Raises RecordError for a name that would lead elsewhere, or that no file can have."""
    fits = name and name.isprintable() and len(name.encode()) <= LONGEST
    if not fits or Path(name).name != name or name.startswith(".") or (of, name) == (EVALUATION, VALIDATION):
        raise RecordError(f"{where}: {name[:60]!r} is no name of {of}")


def _check_sizes(out: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        if len(text.encode()) > MOST_BYTES:
            raise ValueError(f"{out / name}: {len(text.encode())} bytes; accepted are at most {MOST_BYTES}")


def _source(run: Run, runs: Sequence[Run], rows: Mapping[str, list[dict[str, str]]]) -> str:
    """The run of the same identity, itself or a longer one, whose metrics begin with those of this one."""
    identity = run.results().get("identity")
    own = rows.get(run.folder.name, [])
    alike = [r.folder.name for r in runs if identity and r.results().get("identity") == identity]
    longer = [name for name in alike if rows.get(name, [])[: len(own)] == own]
    return max(longer, key=lambda name: len(rows.get(name, [])), default=run.folder.name)


def _told(run: Run, source: str, epochs: int) -> dict[str, Any]:
    results = {k: v for k, v in run.results().items() if k != "environment"}
    evaluations = {path.stem: run.evaluations.read(path) for path in _evaluations(run)}
    known = run.environment() if run.environment_file.exists() else {}
    own = {"config": _without_places(run.config()), "environment": {k: v for k, v in known.items() if k in FACTS}}
    own |= {"results": results, "evaluations": evaluations}
    return own | {"metrics_of": source, "epochs": epochs}


def _evaluations(run: Run) -> list[Path]:
    found = sorted(run.evaluations.folder.glob("*.json"))
    for path in found:
        _check_name(path.stem, path, EVALUATION)
    return found


def _without_places(value: Any) -> Any:
    """The same config without folders of the machine; `data.root`, which names the data, stays."""
    if not isinstance(value, Mapping):
        return value
    return {k: _without_places(v) for k, v in value.items() if k not in PLACES}


def _counts(run: Run) -> Iterator[dict[str, str]]:
    files = {VALIDATION: run.records.validation_file}
    files |= {path.stem: path.with_name(f"{path.stem}_{COUNTS}.csv") for path in _evaluations(run)}
    for name, path in files.items():
        if path.exists():
            yield from ({RUN: run.folder.name, FILE: name} | row for row in _rows(path, run.folder))


def _rows(path: Path, folder: Path | None = None) -> list[dict[str, str]]:
    """The rows of a CSV file by column. Raises RecordError."""
    head, rows = table(path, folder or path.parent)
    return [dict(zip(head, row, strict=True)) for row in rows]


def _by_run(path: Path, folder: Path, head: Sequence[str], runs: Iterable[str]) -> dict[str, list[dict[str, str]]]:
    """The rows of each run. Raises RecordError for rows without these columns, or of none of these runs."""
    out: dict[str, list[dict[str, str]]] = {}
    for row in _rows(path, folder):
        if not row.keys() >= {*head}:
            raise RecordError(f"{path}: columns {[*row][:3]}...; expected {', '.join(head)} and others")
        if row[RUN] not in runs:
            raise RecordError(f"{path}: rows of {row[RUN][:60]!r}, a run that {RUNS} does not name")
        out.setdefault(row.pop(RUN), []).append(row)
    return out


def _csv(rows: Sequence[Mapping[str, str]], head: Sequence[str] = ()) -> str:
    """A table of these rows, with at least the columns `head`."""
    out = io.StringIO()
    columns = dict.fromkeys([*head, *(k for row in rows for k in row)])
    writer = csv.DictWriter(out, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
