"""Figures of the study that no single report draws: means over seeds, a score along a setting, maps side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from seglab.labels import color_image
from seglab.pages.pictures import preview
from seglab.report.curves import trainings
from seglab.report.figures import PALETTE
from seglab.report.inspection import Inspection
from seglab.report.paired.outcomes import Outcome
from seglab.report.study import Entry, Table, colors_of


def progress(table: Table, key: str = "val/miou", title: str = "validation mIoU after each epoch") -> Figure:
    """A number of each epoch: thin lines are trainings, thick ones the means over the seeds of a loss."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    ax = figure.subplots()
    colors = colors_of(table.entries)
    of_loss: dict[str, list[Entry]] = {}
    for e in trainings(table):
        of_loss.setdefault(e.cell.loss, []).append(e)
    for loss, entries in of_loss.items():
        color = PALETTE[colors[loss] % len(PALETTE)]
        length = min(len(e.metrics) for e in entries)
        values = np.array([[row.get(key, np.nan) for row in e.metrics[:length]] for e in entries])
        epochs = np.arange(1, length + 1)
        ax.plot(epochs, values.T, color=color, linewidth=0.5, alpha=0.4)
        ax.plot(epochs, values.mean(0), color=color, linewidth=2, label=f"{loss} (mean of {len(entries)} seeds)")
    ax.set_title(f"{table.title}: {title}", fontsize=10, loc="left")
    return _finished(figure, ax, "epoch")


def series(found: Sequence[Outcome], key: str, label: str, names: Mapping[str, str] | None = None) -> Figure:
    """mIoU along a setting, a line for each loss through the means over seeds, a dot for each seed.

    `names`: the number at which a value of the setting stands, where the value is none itself.
    """
    figure = Figure(figsize=(8, 4), layout="constrained")
    ax = figure.subplots()
    lines: dict[str, dict[float, list[float]]] = {}
    for o in found:
        at = float((names or {}).get(o.settings[key], o.settings[key]))
        lines.setdefault(f"{o.settings['loss']}, {o.settings['epochs']} epochs", {}).setdefault(at, []).append(o.miou)
    for i, (name, points) in enumerate(sorted(lines.items())):
        color = PALETTE[i % len(PALETTE)]
        where = sorted(points)
        ax.plot(where, [np.mean(points[at]) for at in where], color=color, linewidth=2, label=name)
        for at in where:
            ax.plot([at] * len(points[at]), points[at], "o", color=color, markersize=4, alpha=0.7)
    ax.set_ylabel("mIoU")
    return _finished(figure, ax, label, whole=False)


def lines(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], across: str, up: str) -> Figure:
    """Curves by name, each as its places and its values."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    ax = figure.subplots()
    for i, (name, (x, y)) in enumerate(curves.items()):
        ax.plot(x, y, ".-", color=PALETTE[i % len(PALETTE)], label=name)
    ax.set_ylabel(up)
    return _finished(figure, ax, across, whole=False)


def maps(cells: Mapping[tuple[str, str], Inspection], name: str) -> Figure:
    """One validation image, its label, and its map by each cell, which stand in (row, column)."""
    rows = list(dict.fromkeys(row for row, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    image, label = next(iter(cells.values())).images(name) or (None, None)
    if image is None or label is None:
        raise ValueError(f"{name}: its image is not at hand")
    classes = dict(next(iter(cells.values())).classes)
    figure = Figure(figsize=(2.2 * (len(columns) + 1), 2.35 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(columns) + 1, squeeze=False)
    for ax in axes.ravel():
        ax.axis("off")
    pairs = zip(axes[:2, 0], (f"image {name}", "label"), (preview(image), color_image(label, classes)), strict=True)
    for ax, title, picture in pairs:
        ax.imshow(picture, interpolation="nearest")
        ax.set_title(title, fontsize=9, loc="left")
    for (row, column), cell in cells.items():
        ax = axes[rows.index(row), columns.index(column) + 1]
        found = cell.run.records.map(name)
        if found is None:
            raise ValueError(f"{name}: its map is gone from {cell.run.folder}")
        ax.imshow(color_image(found, classes), interpolation="nearest")
        ax.set_title(f"{row}, {column}", fontsize=9, loc="left")
    patches = [Patch(facecolor=color, label=text) for text, color in classes.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False, fontsize=9)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure as PNG, without a date."""
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return path


def _finished(figure: Figure, ax: Axes, across: str, whole: bool = True) -> Figure:
    ax.set_xlabel(across)
    if whole:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.3)
    ax.legend(loc="best", frameon=False, fontsize=9)
    return figure
