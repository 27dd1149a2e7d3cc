"""The grid of a study as tables; never trains."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from seglab.machine.files import write_whole
from seglab.pages.markdown import markdown_table
from seglab.pages.text import printable
from seglab.report.cells import UNREADABLE, Cell, Study, mixtures
from seglab.report.paired.folds import fold_tables
from seglab.report.rows import read_cells_of, rows
from seglab.run.folder import DONE
from seglab.scores import MAIN


def grid_table(table: Sequence[Cell]) -> list[list[str]]:
    """Header and rows: losses down, epochs across, in each cell the validation mIoU (a mean over n seeds).

    Where cells have a score of the test split, another column holds it.
    """
    columns: list[tuple[int, str]] = []
    for e in sorted({c.epochs for c in table}):
        columns += [(e, "val"), *([(e, "test")] if any(c.test for c in table if c.epochs == e) else [])]
    rows = [["loss", *(f"{e} epochs{', test' * (part == 'test')}" for e, part in columns)]]
    for loss in dict.fromkeys(c.loss for c in table):
        rows.append([loss, *(_score([c for c in table if (c.loss, c.epochs) == (loss, e)], p) for e, p in columns)])
    return rows


def _score(found: Sequence[Cell], part: str) -> str:
    scores = [v for c in found if c.status == DONE and (v := getattr(c, part).get(MAIN.name)) is not None]
    if part == "test" and not scores:
        return ""
    if len(found) <= 1:
        return f"{scores[0]:.4f}" if scores else "".join(c.status for c in found)
    return f"{mean(scores):.4f} (n={len(scores)} of {len(found)})" if scores else f"none of {len(found)} done"


def grid_markdown(study: Study) -> str:
    """All tables of a study, under each the score of a constant map, and why cells have no score."""
    parts = []
    for title in dict.fromkeys(c.table for c in study.cells):
        table = [c for c in study.cells if c.table == title]
        parts.append(f"## {title}\n\nvalidation mIoU after the last epoch\n\n{markdown_table(grid_table(table))}")
        known = [c.results.get("majority_miou") for c in table if c.status == DONE]
        constant = {f"{value:.4f}" for value in known if value is not None}
        parts += [f"constant map of the most frequent class: {' or '.join(sorted(constant))}"] if constant else []
        parts += mixtures(table) + [note for c in table for note in c.notes]
    tables, lacking = fold_tables(study.cells)
    for pooled in tables:
        grid = markdown_table(grid_table([e.cell for e in pooled.entries]))
        parts.append(f"## {pooled.title}\n\nvalidation mIoU of the counts of all folds, after the last epoch\n\n{grid}")
    parts += lacking
    for c in [c for c in study.cells if c.status != DONE] + study.superseded:
        reason = printable(c.results["reason"])
        parts.append(f"{c.status}: {c.loss}, {c.epochs} epochs, seed {c.seed} ({c.folder}): {reason}")
    parts += [f"{UNREADABLE}: {folder}: this cell can't be read: {why}" for folder, why in study.unreadable.items()]
    return "\n\n".join(printable(part, keep="\n") for part in parts) + "\n"


def grid_csv(study: Study) -> str:
    """One line a run, with every score of those that count; an absent class has an empty field."""
    found = rows(study)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(found[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return out.getvalue()


def write_grid(folder: Path) -> str:
    """Writes grid.csv and grid.md of a study and returns the latter. Raises FileNotFoundError where there is no run."""
    study = read_cells_of(folder)
    write_whole(folder / "grid.csv", grid_csv(study))
    markdown = grid_markdown(study)
    write_whole(folder / "grid.md", markdown)
    return markdown
