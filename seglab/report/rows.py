"""A study as plain rows, one for each run: what grid.csv holds, for those who compute with it."""

from pathlib import Path
from typing import Any

from seglab.report.cells import UNREADABLE, Study, read_cells
from seglab.run.packed import RUNS
from seglab.scores import SCORES

HEADS = ("table", "loss", "epochs", "seed", "status")
"""Columns that say which cell it is, and whether it has a score."""

REFERENCES = [score.name for score in SCORES if score.reference]

Row = dict[str, Any]


def read_study(folder: Path | str) -> list[Row]:
    """The runs of a study folder, each with the columns of its grid.csv; `pandas.DataFrame(rows)` makes them a table.

    `table`, `loss`, `epochs` and `seed` name the cell. `status` is `done`, or says why there is no score, and `reason`
    says more. Scores are numbers such as `miou` and `iou.roof`; None of an absent class, and where there is no score.
    Nothing is trained, constructed or written. Raises FileNotFoundError for a folder without runs.
    """
    return rows(read_cells_of(Path(folder)))


def read_cells_of(folder: Path) -> Study:
    """The cells of a study. Raises FileNotFoundError where there is no run."""
    study = read_cells(folder)
    if not study.cells and not study.unreadable:
        packed = "; seglab unpack makes run folders of this packed study" if (folder / RUNS).is_file() else ""
        raise FileNotFoundError(f"{folder}: no run folder in it{packed}; accepted is a folder such as outputs/default")
    return study


def rows(study: Study) -> list[Row]:
    """One row a run, all with the same keys; those of superseded and unreadable runs are last."""
    found = study.cells + study.superseded
    scores = list(dict.fromkeys(key for c in found for key in c.val))
    tests = list(dict.fromkeys(key for c in found for key in c.test))
    out: list[Row] = []
    for c in found:
        numbers = {key.replace("/", "."): c.val.get(key) for key in scores}
        numbers |= {key: c.results.get(key) for key in REFERENCES}
        numbers |= {f"test.{key.replace('/', '.')}": c.test.get(key) for key in tests}
        place = {head: getattr(c, head) for head in HEADS}
        out.append(place | numbers | {"folder": c.folder, "reason": c.results.get("reason")})
    columns = list(out[0]) if out else [*HEADS, *REFERENCES, "folder", "reason"]
    for folder, why in study.unreadable.items():
        out.append(dict.fromkeys(columns) | {"status": UNREADABLE, "folder": folder, "reason": why})
    return out
