"""Run folders -> the grid as tables; never trains."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from seglab.machine.files import write_whole
from seglab.pages.markdown import markdown_table
from seglab.run.folder import DONE, Run, runs_of

NOT_SETTINGS = (
    *("epochs", "seed", "study", "output_dir", "score_train", "pictures", "picture_every", "pr_curves"),
    *("profile", "benchmark"),
    *("names.", "data.root", "data.cache_dir", "data.num_workers"),
)
"""Config keys, or their beginnings, in which the cells of one table may differ."""


@dataclass(frozen=True)
class Cell:
    """One run: its table, its place in it, and its results."""

    table: str
    loss: str
    epochs: int
    seed: int
    folder: str
    results: Mapping[str, Any]

    @property
    def status(self) -> str:
        """`done`, or why there is no score."""
        return self.results["status"]

    @property
    def val(self) -> Mapping[str, float | None]:
        """Validation scores by name; empty unless done."""
        return flat(self.results.get("val", {}))


def cells(study: Path) -> list[Cell]:
    """Every cell of a study, by table, loss, epochs and seed.

    The cells of a table are equal in all but loss, epochs and seed; titles name the keys in which tables differ.
    """
    runs = list(runs_of(study))
    configs = [run.config() for run in runs]
    tables = _titles(configs, lambda key: not key.startswith(("loss.", *NOT_SETTINGS)), ["model", "data"])
    losses = _titles(configs, lambda key: key.startswith("loss."), ["loss"])
    found = [_cell(*facts) for facts in zip(runs, configs, tables, losses, strict=True)]
    return sorted(found, key=lambda c: (c.table, c.loss, c.epochs, c.seed))


def _cell(run: Run, config: Mapping[str, Any], table: str, loss: str) -> Cell:
    return Cell(table, loss, config["epochs"], config["seed"], run.folder.name, run.results())


def _titles(configs: Sequence[Mapping[str, Any]], counts, groups: list[str]) -> list[str]:
    """The chosen files of `groups`, and what differs, among the keys that count, between configs of the same files."""
    heads = [", ".join(config["names"][g] for g in groups) for config in configs]
    settings = [{k: v for k, v in flat(config).items() if counts(k)} for config in configs]
    out = []
    for head, own in zip(heads, settings, strict=True):
        same = [s for h, s in zip(heads, settings, strict=True) if h == head]
        differs = [k for k in dict.fromkeys(k for s in same for k in s) if any(s.get(k) != own.get(k) for s in same)]
        out.append(", ".join([head, *(f"{k}={own.get(k)}" for k in differs)]))
    return out


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, its keys joined by dots."""
    if not isinstance(config, Mapping):
        return {prefix: config}
    parts = (flat(value, f"{prefix}.{key}" if prefix else key) for key, value in config.items())
    return {k: v for part in parts for k, v in part.items()}


def grid_table(table: Sequence[Cell]) -> list[list[str]]:
    """Header and rows: losses down, epochs across, in each cell the validation mIoU (a mean over n seeds)."""
    epochs = sorted({c.epochs for c in table})
    rows = [["loss", *(f"{e} epochs" for e in epochs)]]
    for loss in dict.fromkeys(c.loss for c in table):
        rows.append([loss, *(_score([c for c in table if (c.loss, c.epochs) == (loss, e)]) for e in epochs)])
    return rows


def _score(found: Sequence[Cell]) -> str:
    scores = [c.val["miou"] for c in found if c.status == DONE and c.val["miou"] is not None]
    if len(found) <= 1:
        return f"{scores[0]:.4f}" if scores else "".join(c.status for c in found)
    return f"{mean(scores):.4f} (n={len(scores)} of {len(found)})" if scores else f"none of {len(found)} done"


def grid_markdown(found: Sequence[Cell]) -> str:
    """All tables of a study, under each what a constant map would score, and why cells have no score."""
    parts = []
    for title in dict.fromkeys(c.table for c in found):
        table = [c for c in found if c.table == title]
        parts.append(f"## {title}\n\nvalidation mIoU after the last epoch\n\n{markdown_table(grid_table(table))}")
        constant = {f"{c.results['majority_miou']:.4f}" for c in table if c.status == DONE}
        parts += [f"the commonest class everywhere: {' or '.join(sorted(constant))}"] if constant else []
    for c in found:
        if c.status != DONE:
            parts.append(f"{c.status}: {c.loss}, {c.epochs} epochs, seed {c.seed} ({c.folder}): {c.results['reason']}")
    return "\n\n".join(parts) + "\n"


def grid_csv(found: Sequence[Cell]) -> str:
    """One line a cell, with every score; an absent class has an empty field."""
    scores = list(dict.fromkeys(name for c in found for name in c.val))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["table", "loss", "epochs", "seed", "status", *scores, "majority_miou", "folder", "reason"])
    for c in found:
        ends = [c.results.get("majority_miou"), c.folder, c.results.get("reason")]
        writer.writerow([c.table, c.loss, c.epochs, c.seed, c.status, *map(c.val.get, scores), *ends])
    return out.getvalue()


def write_grid(study: Path) -> str:
    """Writes grid.csv and grid.md of a study and returns the latter. Raises FileNotFoundError where there is no run."""
    found = cells(study)
    if not found:
        raise FileNotFoundError(f"{study}: no run folder in it; accepted is a folder such as outputs/default")
    write_whole(study / "grid.csv", grid_csv(found))
    markdown = grid_markdown(found)
    write_whole(study / "grid.md", markdown)
    return markdown
