"""A study -> report.html: everything a reader asks of it on one page that needs nothing else."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from seglab.machine.files import write_whole
from seglab.pages.text import printable
from seglab.report.cells import Study, first_line, mixtures, read_cells
from seglab.report.charts import reliability
from seglab.report.comparison import Comparison, Group, compare
from seglab.report.curves import MOST_TRAININGS, Chart, of_each, overlaid, trainings
from seglab.report.paired.folds import fold_tables
from seglab.report.settings import ceiling, commands, differences, environments, unfinished
from seglab.report.statistics import DRAWS
from seglab.report.study import Entry, Table, colors_of, read_tables
from seglab.report.symptoms import symptoms
from seglab.report.tables import grid_table
from seglab.report.wall import MOST_BYTES, Wall, build_wall
from seglab.scores import MAIN, SCORES, keys

if TYPE_CHECKING:
    from seglab.data import SegmentationData

FILE = "report.html"
GENERATOR = b'<meta name="generator" content="seglab">'
log = logging.getLogger(__name__)


@dataclass
class Field:
    """A place of the heat map: `group` is None where the study has no such cell."""

    group: Group | None
    heat: int
    mark: str


@dataclass
class ScoreTable:
    """Mean scores over seeds, a row for each group: of the whole split (`per_class` false), or of each class."""

    title: str
    columns: list[str]
    rows: list[tuple[Group, list[float | None]]]
    per_class: bool


@dataclass
class Section:
    """The content of the page for one table."""

    table: Table
    comparison: Comparison
    epochs: list[int]
    grid: list[tuple[str, list[Field]]]
    low: float
    high: float
    majority: float | None
    scores: list[ScoreTable]
    confusions: list[tuple[Entry, np.ndarray]]
    shares: list[tuple[str, list[float]]]
    calibrations: list[tuple[Entry, Chart, float]]
    wall: Wall
    overlaid: list[Chart]
    each: list[tuple[Chart, str]]
    symptoms: list[str]
    unfinished: list[tuple[str, str, str]]
    trained: int


def write_report(
    study: Path, out: Path | None = None, audit: Path | None = None, data: "SegmentationData | Path | None" = None
) -> Path:
    """Writes the report of a study and returns its path. `data` is that of a running training, or the root of it.

    Raises FileNotFoundError where there is no run, and ValueError for an audit that was asked for and can't be read.
    """
    found = read_cells(study)
    tables = read_tables(found)
    if not tables and not found.unreadable:
        raise FileNotFoundError(f"{study}: no run folder in it; accepted is a folder such as outputs/default")
    path = out or study / FILE
    _check_replaceable(path)
    limit, problems = _limit(study, audit)
    html = page(study, found, tables, limit, data, problems)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, html)
    return path


def _check_replaceable(path: Path) -> None:
    """Raises ValueError if there is something else than a page of seglab."""
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; accepted is the name of a file for the page")
    if path.exists() and not (path.is_file() and GENERATOR in path.read_bytes()[:2000]):
        raise ValueError(f"{path}: is a file that is no page of seglab; accepted is another name")


def _limit(study: Path, audit: Path | None) -> tuple[dict[str, Any] | None, list[str]]:
    """The labellers' ceiling, and why that of the study itself can't be read."""
    try:
        return ceiling(study, audit), []
    except (ValueError, OSError) as e:
        if audit:
            raise
        return None, [f"the labellers' ceiling can't be read ({printable(first_line(e))})"]


def update(study: Path, data: "SegmentationData | None" = None) -> Path | None:
    """Writes the report while or after a training, which no failure of it may end: one line says why there is none."""
    try:
        return write_report(study, data=data)
    except Exception as e:
        log.warning("%s could not be written: %s", study / FILE, f"{type(e).__name__}: {e}".splitlines()[0])
        return None


def page(
    study: Path,
    found: Study,
    tables: Sequence[Table],
    limit: dict[str, Any] | None,
    data: "SegmentationData | Path | None",
    problems: Sequence[str] = (),
) -> str:
    """The page as HTML."""
    from seglab.pages.page import render

    entries = [e for t in tables for e in t.entries]
    pooled, lacking = fold_tables(found.cells)
    return render(
        "report.html.j2",
        name=printable(study.resolve().name),
        sections=[_section(t, limit, data, MOST_BYTES // len(tables)) for t in tables],
        folds=[(t.title, compare(t), grid_table([e.cell for e in t.entries])) for t in pooled],
        unreadable=found.unreadable,
        entries=entries,
        done=[e for e in entries if e.done],
        limit=limit,
        problems=[*problems, *lacking, *(p for e in entries for p in e.problems)],
        differences=differences(entries),
        environments=environments(entries),
        commands=commands(entries),
        most_trainings=MOST_TRAININGS,
        draws=DRAWS,
        folder=printable(str(study)),
    )


def _section(
    table: Table, limit: dict[str, Any] | None, data: "SegmentationData | Path | None", most_bytes: int
) -> Section:
    found = compare(table)
    found.caveats += mixtures([e.cell for e in table.entries])
    majority = next((e.cell.results.get("majority_miou") for e in table.done), None)
    scores = [g.mean.value for g in found.groups if g.mean]
    top = limit["miou"] if limit and limit.get("miou") else 0.0
    low = min([*scores, majority or 1.0], default=0.0)
    high = max([*scores, top], default=1.0)
    return Section(
        table, found, *_grid(found, low, high), low, high, majority, _scores(found, table),
        [(e, e.validation.confusion.sum(0)) for e in table.compared if e.validation],
        _shares(table), _calibrations(table), build_wall(table, data, most_bytes), overlaid(table), of_each(table),
        symptoms(table), unfinished(table), len(trainings(table)),
    )  # fmt: skip


def _grid(found: Comparison, low: float, high: float) -> tuple[list[int], list[tuple[str, list[Field]]]]:
    by_place = {(g.loss, g.epochs): g for g in found.groups}
    epochs = sorted({g.epochs for g in found.groups})
    losses = dict.fromkeys(g.loss for g in found.groups)
    ties = {(r.group.loss, r.group.epochs) for r in found.ties}
    best = (found.best.loss, found.best.epochs) if found.best else None

    def place(loss: str, count: int) -> Field:
        group = by_place.get((loss, count))
        mean = group.mean if group else None
        heat = round(100 * (mean.value - low) / (high - low)) if mean and high > low else 0
        mark = "best" if (loss, count) == best else "tie" if (loss, count) in ties else ""
        return Field(group, heat, mark)

    return epochs, [(loss, [place(loss, e) for e in epochs]) for loss in losses]


def _scores(found: Comparison, table: Table) -> list[ScoreTable]:
    """One table of the scores of whole splits, and one for each score that classes have."""
    groups = sorted((g for g in found.groups if g.done), key=lambda g: -(g.mean.value if g.mean else 0))
    shown = [score for score in SCORES if not score.reference]
    whole = [score for score in shown if not score.per_class]
    out = [ScoreTable("Scores of the whole validation split", [s.label for s in whole], [], False)]
    wanted = [[s.name for s in whole]]
    for score in (score for score in shown if score.per_class):
        out.append(ScoreTable(f"{score.label} of each class", list(table.classes), [], True))
        wanted.append(keys(score, table.classes))
    for part, names in zip(out, wanted, strict=True):
        part.rows = [(group, [_mean(group, name) for name in names]) for group in groups]
    if out and any(e.cell.test for group in groups for e in group.done):
        out[0].columns.append(f"test {MAIN.label}")
        for group, values in out[0].rows:
            values.append(_test(group))
    return out if groups else []


def _test(group: Group) -> float | None:
    """Mean mIoU of the test split; None unless every finished seed has one."""
    known = [v for v in (e.cell.test.get(MAIN.name) for e in group.done) if v is not None]
    return float(np.mean(known)) if len(known) == len(group.done) else None


def _mean(group: Group, name: str) -> float | None:
    known = [v for v in (e.cell.val.get(name) for e in group.done) if v is not None]
    return float(np.mean(known)) if known else None


def _shares(table: Table) -> list[tuple[str, list[float]]]:
    """Each class's share of the labelled pixels: in the labels, and in the map of every cell."""
    found = [(e, e.validation.confusion.sum(0)) for e in table.compared if e.validation]
    rows = [("labels", found[0][1].sum(1))] if found else []
    rows += [(e.name, counts.sum(0)) for e, counts in found]
    return [(name, (n / max(1, n.sum())).tolist()) for name, n in rows]


def _calibrations(table: Table) -> list[tuple[Entry, Chart, float]]:
    """Reliability diagram and expected calibration error of each cell."""
    out = []
    colors = colors_of(table.entries)
    for e in table.done:
        bins = e.calibration
        if bins is None or not bins[:, 0].sum():
            continue
        used = bins[bins[:, 0] > 0]
        n = used[:, 0] / used[:, 0].sum()
        right = used[:, 1] / used[:, 0]
        confidence = used[:, 2] / used[:, 0]
        rows = list(zip(n.tolist(), right.tolist(), confidence.tolist(), strict=True))
        drawing: Markup = reliability(f"reliability of {e.name}", rows, colors[e.cell.loss])
        out.append((e, Chart(e.name, drawing, []), expected_calibration_error(bins)))
    return out


def expected_calibration_error(bins: np.ndarray) -> float:
    """Mean of |share right - mean confidence| over bins `[bins,3]`, weighed by their pixels (Guo et al. 2017)."""
    pixels, right, confidence = bins.T
    return float(np.abs(right - confidence).sum() / pixels.sum())
