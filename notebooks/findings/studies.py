"""The studies that are kept here, as the report reads them; a study that was trained here is packed anew."""

import atexit
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

import numpy as np

from seglab.pages.markdown import markdown_table
from seglab.report.comparison import Comparison, compare
from seglab.report.paired.along import Contrast, along, told
from seglab.report.paired.folds import pooled
from seglab.report.paired.outcomes import Outcome, Scored, outcomes_of
from seglab.report.statistics import seed_mean
from seglab.report.study import Table, read_study
from seglab.run.folder import Run, runs_of
from seglab.run.packed import pack, unpack
from seglab.run.records import Validation
from seglab.scores import miou

PACKED = Path(__file__).parent / "packed"
OUTPUTS = Path(__file__).parents[2] / "outputs"
OWN = Scored()
table = told


def names() -> list[str]:
    """Names of the studies that are kept."""
    return sorted(path.name for path in PACKED.iterdir() if path.is_dir())


def keep(name: str) -> list[Path]:
    """Packs a study that was trained here."""
    return pack(OUTPUTS / name, PACKED / name)


@cache
def folder(name: str) -> Path:
    """The run folders of a study that is kept, as far as it is."""
    temporary = mkdtemp(prefix="findings-")
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    unpack(PACKED / name, Path(temporary) / name)
    return Path(temporary) / name


def runs(name: str) -> list[Run]:
    """The runs of a study."""
    return list(runs_of(folder(name)))


def tables(name: str) -> list[Table]:
    """The tables of a study."""
    return read_study(folder(name))


def main_table(name: str) -> Table:
    """The table of a study that has most cells."""
    return max(tables(name), key=lambda table: len(table.entries))


def answer(name: str) -> Comparison:
    """The comparison of the largest table of a study."""
    return compare(main_table(name))


def found(studies: Sequence[str], scored: Scored = OWN) -> list[Outcome]:
    """Finished cells of studies, folds pooled."""
    outcomes, missing = outcomes_of([folder(name) for name in studies], scored)
    whole, lacking = pooled(outcomes)
    if missing or lacking:
        raise ValueError("; ".join(missing + lacking))
    return whole


def contrasts(
    studies: Sequence[str],
    key: str,
    scored: Scored = OWN,
    score: str = "miou",
) -> list[Contrast]:
    """Cells of studies along one setting, by one score."""
    return along(found(studies, scored), key, score)


def without(found: Sequence[Outcome], *starts: str) -> list[Outcome]:
    """The same cells on the images whose names begin with none of these."""
    out = []
    for o in found:
        kept = [i for i, name in enumerate(o.counts.names) if not name.startswith(starts)]
        names, scenes = ([column[i] for i in kept] for column in (o.counts.names, o.counts.scenes))
        out.append(replace(o, counts=Validation(names, scenes, o.counts.confusion[kept])))
    return out


def content(name: str, key: str, value: str) -> str:
    """Hash of the data of the cells of a study that have this value of a setting."""
    (data,) = {o.cell.identity.data for o in found([name]) if o.settings[key] == value}
    return data


def trained_and_new(name: str) -> str:
    """mIoU on the images that trained and on those that did not, in markdown: means over seeds with their intervals."""
    lines = [["loss", "epochs", "mIoU on training images", "mIoU on validation images", "seeds"]]
    validated = set(found([name])[0].counts.names)
    groups: dict[tuple[str, str], list[Validation]] = {}
    for o in found([name], Scored("all")):
        groups.setdefault((o.settings["loss"], o.settings["epochs"]), []).append(o.counts)
    for place, members in sorted(groups.items(), key=lambda item: (item[0][0], int(item[0][1]))):
        inside = [image in validated for image in members[0].names]
        sides = [[counts.confusion[np.equal(inside, side)].sum(0) for counts in members] for side in (False, True)]
        means = [seed_mean([float(miou(counts)) for counts in side]) for side in sides]
        told = [f"{mean.value:.3f} ({mean.low:.3f} to {mean.high:.3f})" for mean in means]
        lines.append([*place, *told, str(len(members))])
    return markdown_table(lines)


def overview() -> str:
    """What each study cost, in markdown; a training that two studies share is counted in the first."""
    head = ["study", "cells", "trainings", "epochs trained", "epochs without sharing", "hours of one core"]
    lines = [head]
    seen: dict[str, Cost] = {}
    whole: list[Cost] = []
    for name in names():
        before = set(seen)
        cells = [Cost.of(run) for run in runs(name)]
        whole += cells
        for cost in sorted(cells, key=lambda cost: cost.epochs):
            if cost.identity not in before:
                seen[cost.identity] = cost
        own = [cost for identity, cost in seen.items() if identity not in before]
        lines.append([name, *_told(len(cells), own, cells)])
    lines.append(["together", *_told(len(whole), [*seen.values()], whole)])
    return markdown_table(lines)


class Cost(NamedTuple):
    """Epochs and seconds of a cell from its first epoch on; equal identities share a training."""

    identity: str
    epochs: int
    seconds: float

    @classmethod
    def of(cls, run: Run) -> "Cost":
        """The cost of a finished run."""
        results = run.results()
        return cls(results["identity"], results["epochs"], float(results["train_seconds"] or 0))


def _told(cells: int, trained: Sequence[Cost], alone: Sequence[Cost]) -> list[str]:
    epochs = sum(cost.epochs for cost in trained), sum(cost.epochs for cost in alone)
    hours = sum(cost.seconds for cost in trained) / 3600
    return [str(cells), str(len(trained)), f"{epochs[0]:,}", f"{epochs[1]:,}", f"{hours:.1f}"]
