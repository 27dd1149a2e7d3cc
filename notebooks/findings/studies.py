"""The studies that are kept here, as the report reads them; a study that was trained here is packed anew."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from seglab.pages.markdown import markdown_table
from seglab.report.comparison import Comparison, compare
from seglab.report.paired.along import Contrast, along, judged_by, rows
from seglab.report.paired.folds import pooled
from seglab.report.paired.outcomes import Outcome, Scored, outcomes_of
from seglab.report.study import Table, read_study
from seglab.run.folder import Run, runs_of
from seglab.run.packed import pack, unpack

PACKED = Path(__file__).parent / "packed"
OUTPUTS = Path(__file__).parents[2] / "outputs"


def names() -> list[str]:
    """Names of the studies that are kept."""
    return sorted(path.name for path in PACKED.iterdir() if path.is_dir())


def keep(name: str) -> list[Path]:
    """Packs a study that was trained here."""
    return pack(OUTPUTS / name, PACKED / name)


@cache
def folder(name: str) -> Path:
    """The run folders of a study that is kept, as far as it is."""
    study = Path(mkdtemp(prefix="findings-")) / name
    unpack(PACKED / name, study)
    return study


def runs(name: str) -> list[Run]:
    """The runs of a study."""
    return list(runs_of(folder(name)))


def tables(name: str) -> list[Table]:
    """The tables of a study."""
    return read_study(folder(name))


def answer(name: str) -> Comparison:
    """The comparison of the largest table of a study."""
    return compare(max(tables(name), key=lambda table: len(table.entries)))


def found(studies: Sequence[str], scored: Scored = Scored()) -> list[Outcome]:  # noqa: B008
    """Finished cells of studies, folds pooled."""
    outcomes, missing = outcomes_of([folder(name) for name in studies], scored)
    whole, lacking = pooled(outcomes)
    if missing or lacking:
        raise ValueError("; ".join(missing + lacking))
    return whole


def contrasts(studies: Sequence[str], key: str, scored: Scored = Scored()) -> list[Contrast]:  # noqa: B008
    """Cells of studies along one setting."""
    return along(found(studies, scored), key)


def table(contrasts: Sequence[Contrast]) -> str:
    """Contrasts in markdown, and how they were judged."""
    return f"{markdown_table(rows(contrasts))}\n\n{judged_by(contrasts)}"


def seconds(studies: Sequence[str]) -> float:
    """Time that the trainings of studies took, each row once."""
    longest: dict[str, float] = {}
    for run in (run for name in studies for run in runs(name)):
        results = run.results()
        longest[results["identity"]] = max(longest.get(results["identity"], 0.0), float(results["train_seconds"] or 0))
    return float(np.sum([*longest.values()]))
