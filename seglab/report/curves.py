"""Curves over epochs: all trainings in one chart, or one chart for each training."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from seglab.report.charts import Line, axis, line_chart
from seglab.report.study import Entry, Table, colors_of
from seglab.scores import MAIN, labels

STAGES = ("encoder", "bottleneck", "decoder", "head")
"""The stages whose gradient norms metrics.csv holds."""

SCORED = {"train_scored": "training images", "val": "validation images"}
"""Images that are scored in eval mode."""

MOST_TRAININGS = 12
"""Trainings with small charts of their own; if there are more, the first ones are shown."""


@dataclass(frozen=True)
class Chart:
    """A drawing, what it shows, and its legend as (name, colour)."""

    title: str
    drawing: Markup
    legend: list[tuple[str, int]]


def trainings(table: Table) -> list[Entry]:
    """The longest cell of each loss and seed, and each shorter cell that is not the beginning of a longer one."""
    kept: list[Entry] = []
    for e in sorted((e for e in table.entries if e.metrics), key=lambda e: -len(e.metrics)):
        same = [k for k in kept if (k.cell.loss, k.cell.seed) == (e.cell.loss, e.cell.seed)]
        if not any(_is_beginning(e, k) for k in same):
            kept.append(e)
    return sorted(kept, key=lambda e: (e.cell.loss, e.cell.epochs, e.cell.seed))


def _is_beginning(short: Entry, long: Entry) -> bool:
    pairs = zip(short.metrics, long.metrics, strict=False)
    return all(a.get(key) == b.get(key) for a, b in pairs for key in ("train/loss", "val/loss"))


def overlaid(table: Table) -> list[Chart]:
    """One chart for each score, with one line for each training."""
    shown = trainings(table)
    colors = colors_of(table.entries)
    scores = {f"val/{key}": f"validation {label}" for key, label in labels(table.classes).items()}
    scores |= {"train/loss": "training loss", "val/loss": "validation loss"}
    scores |= {"learning_rate": "learning rate", "batch_norm_gap": "batch norm: batch against running statistics"}
    out = []
    for key, title in scores.items():
        lines = [_line(e, key, label(e, shown), colors[e.cell.loss]) for e in shown]
        lines = [line for line in lines if any(v == v for v in line.y)]
        if lines:
            y = axis([v for n in lines for v in n.y], low=None if key.endswith("/loss") else 0)
            drawing = line_chart(title, lines, y=y)
            out.append(Chart(title, drawing, list(dict.fromkeys((n.name, n.color) for n in lines))))
    return out


def of_each(table: Table) -> list[tuple[Chart, str]]:
    """Charts of single trainings: gradient norms by stage, and training against validation scores if both exist."""
    shown = trainings(table)[:MOST_TRAININGS]
    out = []
    for e in shown:
        lines = [_line(e, f"gradient/{stage}", stage, i) for i, stage in enumerate(STAGES)]
        out.append((_chart(f"{label(e, shown)}: gradient norm", lines, log=True), "gradient"))
        both = [_line(e, f"{part}/{MAIN.name}", name, i) for i, (part, name) in enumerate(SCORED.items())]
        if any(v == v for v in both[0].y):
            out.append((_chart(f"{label(e, shown)}: {MAIN.label}", both), "scored"))
    return [(chart, kind) for chart, kind in out if chart.legend]


def label(entry: Entry, among: Sequence[Entry]) -> str:
    """Name of a training: its loss, and its seed and epochs where they tell it from the others."""
    parts = [entry.cell.loss]
    if len({e.cell.seed for e in among}) > 1:
        parts.append(f"seed {entry.cell.seed}")
    alike = [e for e in among if (e.cell.loss, e.cell.seed) == (entry.cell.loss, entry.cell.seed)]
    if len({e.cell.epochs for e in alike}) > 1:
        parts.append(f"{entry.cell.epochs} epochs")
    return ", ".join(parts)


def _chart(title: str, lines: Sequence[Line], log: bool = False) -> Chart:
    lines = [line for line in lines if any(v == v for v in line.y)]
    y = None if log or not lines else axis([v for n in lines for v in n.y], low=0)
    return Chart(title, line_chart(title, lines, log, y), [(n.name, n.color) for n in lines])


def _line(entry: Entry, key: str, name: str, color: int) -> Line:
    rows = entry.metrics
    return Line(name, [row["epoch"] for row in rows], [row.get(key, float("nan")) for row in rows], color)
