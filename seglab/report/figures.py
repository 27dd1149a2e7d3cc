"""Figures of a study for notebooks, drawn with matplotlib (the extra `notebooks`) and without its global state."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from seglab.labels import color_image
from seglab.pages.pictures import WRONG, error_image, preview
from seglab.report.comparison import Comparison
from seglab.report.curves import label, trainings
from seglab.report.inspection import Inspection, Sample
from seglab.report.paired.along import Contrast
from seglab.report.study import Table, colors_of
from seglab.scores import labels, miou

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#5b5b5b")
"""Colours of losses that colour-blind readers tell apart (Okabe and Ito 2008), and two more."""


def samples(rows: Sequence[tuple[Inspection, str]]) -> Figure:
    """A row for each pair of a cell and a validation image: input, label, map, error and confidence."""
    seen = [inspection.sample(name) for inspection, name in rows]
    inches = sum(11 / 5 * s.mask.shape[0] / s.mask.shape[1] + 0.45 for s in seen)
    figure = Figure(figsize=(11, inches + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), 5, squeeze=False)
    for line, (inspection, _), sample in zip(axes, rows, seen, strict=True):
        sure = _sample(line, inspection, sample)
    figure.colorbar(sure, ax=list(axes[:, 4]), shrink=0.6, label="probability of the predicted class")
    entries = [*rows[0][0].classes.items(), ("no label", "#000000"), ("wrong", WRONG)]
    patches = [Patch(facecolor=color, edgecolor="black", linewidth=0.5, label=text) for text, color in entries]
    figure.legend(handles=patches, loc="outside lower left", ncols=len(patches), frameon=False)
    return figure


def _sample(axes: np.ndarray, inspection: Inspection, sample: Sample) -> AxesImage:
    classes = dict(inspection.classes)
    at = inspection.validation.names.index(sample.name)
    score = float(miou(inspection.validation.confusion[at]))
    pictures = {
        f"image {sample.name}": preview(sample.image),
        "label": color_image(sample.mask, classes),
        f"{inspection.name}\nmIoU {score:.3f}": color_image(sample.prediction, classes),
        "error": error_image(sample.mask, sample.prediction),
    }
    for ax, (title, picture) in zip(axes, pictures.items(), strict=False):
        _picture(ax, title).imshow(picture, interpolation="nearest")
    least = 1 / len(classes)  # the highest of K probabilities is never lower
    return _picture(axes[4], "confidence").imshow(sample.confidence, cmap="gray", vmin=least, vmax=1)


def _picture(ax: Axes, title: str) -> Axes:
    ax.set_title(title, fontsize=10, loc="left")
    ax.set_xticks([])
    ax.set_yticks([])
    return ax


def of_images(inspection: Inspection, most: int = 20) -> Figure:
    """mIoU and IoU of each class on the worst images of a cell, one image a line."""
    names = inspection.worst()[:most]
    at = [inspection.validation.names.index(name) for name in names]
    scores = np.column_stack([miou(inspection.validation.confusion), inspection.iou()])[at]
    columns = ["mIoU", *inspection.classes]
    figure = Figure(figsize=(1.5 + 1.3 * len(columns), 1 + 0.28 * len(names)), layout="constrained")
    ax = figure.subplots()
    _heat_map(ax, scores, "{:.2f}")
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(names)), names)
    ax.xaxis.tick_top()
    ax.set_title(f"{inspection.name}: IoU of each validation image, the worst first", fontsize=10, loc="left")
    return figure


def grid(table: Table, comparison: Comparison) -> Figure:
    """Validation mIoU with losses down and epochs across; for several seeds the mean, interval and n."""
    losses = list(dict.fromkeys(g.loss for g in comparison.groups))
    epochs = sorted({g.epochs for g in comparison.groups})
    values = np.full((len(losses), len(epochs)), np.nan)
    texts = {}
    for group in comparison.groups:
        place = losses.index(group.loss), epochs.index(group.epochs)
        texts[place] = ", ".join(dict.fromkeys(e.cell.status for e in group.entries))
        if mean := group.mean:
            values[place] = mean.value
            texts[place] = f"{mean.value:.3f}" + (
                f"\n{mean.low:.3f} to {mean.high:.3f}, n={mean.n}" if mean.n > 1 else ""
            )
    figure = Figure(figsize=(2.5 + 1.7 * len(epochs), 1.1 + 0.55 * len(losses)), layout="constrained")
    ax = figure.subplots()
    _heat_map(ax, values, texts=texts)
    ax.set_xticks(range(len(epochs)), [f"{e} epochs" for e in epochs])
    ax.set_yticks(range(len(losses)), losses)
    ax.set_title(f"{table.title}: validation mIoU", fontsize=10, loc="left")
    return figure


def _heat_map(ax: Axes, values: np.ndarray, form: str = "", texts: dict[tuple[int, int], str] | None = None) -> None:
    """Light is low; a field without a value is white and shows its text, if it has one."""
    low, high = (np.nanmin(values), np.nanmax(values)) if np.isfinite(values).any() else (0.0, 1.0)
    greens = ListedColormap(np.linspace((0.95, 0.97, 0.93), (0.0, 0.35, 0.25), 256))
    ax.imshow(values, cmap=greens, vmin=low, vmax=max(high, low + 1e-6), aspect="auto")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    for (y, x), value in np.ndenumerate(values):
        text = texts.get((y, x), "") if texts is not None else form.format(value) if np.isfinite(value) else ""
        dark = np.isfinite(value) and value > (low + high) / 2
        ax.text(x, y, text, ha="center", va="center", fontsize=9, color="white" if dark else "black")


def differences(comparison: Comparison) -> Figure:
    """mIoU of each group below the best, with its interval; filled if significantly lower."""
    rivals = comparison.rivals
    figure = Figure(figsize=(8, 1.4 + 0.34 * max(1, len(rivals))), layout="constrained")
    ax = figure.subplots()
    if not rivals or comparison.best is None:
        ax.axis("off")
        ax.text(0, 0.5, textwrap.fill(comparison.sentence, 90), va="center")
        return figure
    for y, rival in enumerate(rivals):
        d = rival.difference
        fill = PALETTE[0] if rival.distinguishable else "white"
        ax.plot([d.low, d.high], [y, y], color=PALETTE[0], linewidth=2)
        ax.plot(d.value, y, "o", color=PALETTE[0], markerfacecolor=fill, markersize=7)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(range(len(rivals)), [r.group.name for r in rivals])
    ax.set_ylim(len(rivals) - 0.4, -0.6)
    ax.set_xlabel(
        "mIoU below the best, with 95% interval; filled: significantly lower after correction for all pairs", fontsize=9
    )
    ax.set_title(f"the others against {comparison.best.name}", fontsize=10, loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def contrasts(found: Sequence[Contrast]) -> Figure:
    """Differences of a score along a setting, with their intervals; filled where significant."""
    figure = Figure(figsize=(9, 1.3 + 0.34 * max(1, len(found))), layout="constrained")
    ax = figure.subplots()
    for y, c in enumerate(found):
        value = c.scores[1].value - c.scores[0].value
        fill = PALETTE[0] if c.verdict.endswith("better") else "white"
        if c.difference:
            ax.plot([c.difference.low, c.difference.high], [y, y], color=PALETTE[0], linewidth=2)
        ax.plot(value, y, "o", color=PALETTE[0], markerfacecolor=fill, markersize=7)
    ax.axvline(0, color="black", linewidth=0.8)
    names = [", ".join([*(_place(k, v) for k, v in c.place.items()), _sides(c)]) for c in found]
    ax.set_yticks(range(len(found)), names)
    ax.set_ylim(len(found) - 0.4, -0.6)
    ax.set_xlabel("difference, with 95% interval; filled: significant after Holm's correction", fontsize=9)
    ax.set_title(f"{found[0].score} along {found[0].key}" if found else "no contrast", fontsize=10, loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def _place(key: str, value: str) -> str:
    if key in ("loss", "epochs"):
        return f"{value}{' epochs' * (key == 'epochs')}"
    return f"{key.rpartition('.')[2]} {textwrap.shorten(value, 30)}"


def _sides(found: Contrast) -> str:
    return f"{textwrap.shorten(found.second, 30)} against {textwrap.shorten(found.first, 30)}"


def curves(table: Table) -> Figure:
    """Validation scores and both losses over epochs; one line for each training, coloured by loss."""
    shown = trainings(table)
    colors = colors_of(table.entries)
    charts = {f"val/{key}": f"validation {text}" for key, text in labels(table.classes).items()}
    charts |= {"val/loss": "validation loss", "train/loss": "training loss"}
    rows = -(-len(charts) // 4)
    figure = Figure(figsize=(13, 2.6 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, 4, squeeze=False).ravel()
    for ax, (key, title) in zip(axes, charts.items(), strict=False):
        for e in shown:
            color = PALETTE[colors[e.cell.loss] % len(PALETTE)]
            scores = [row.get(key, np.nan) for row in e.metrics]
            ax.plot([row["epoch"] for row in e.metrics], scores, ".-", color=color, label=label(e, shown))
        ax.set_title(title, fontsize=10, loc="left")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.3)
    for ax in axes[len(charts) :]:
        ax.axis("off")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower left", ncols=max(1, min(4, len(names))), frameon=False)
    return figure
