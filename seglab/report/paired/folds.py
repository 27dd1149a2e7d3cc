"""Folds pooled: the cells of all folds as one, in which each image was validated once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from seglab.report.cells import Cell
from seglab.report.paired.outcomes import Outcome, Scored, in_order, of_cells, varying
from seglab.report.study import Entry, Table, cell_name
from seglab.run.records import Validation
from seglab.scores import SCORES, scores

FOLD, FOLDS = "data.fold", "data.folds"
ALL = "all "


def pooled(found: Sequence[Outcome]) -> tuple[list[Outcome], list[str]]:
    """The outcomes with those of all folds in the place of each fold's, and a sentence on each that lacks folds.

    The counts of a pooled outcome are those of all its folds: its mIoU is of all images, not a mean over folds.
    """
    alone: list[Outcome] = []
    groups: dict[tuple, list[Outcome]] = {}
    for o in found:
        whole = o.settings.get(FOLD, "null") == "null"
        (alone if whole else groups.setdefault((o.without(FOLD), o.seed), [])).append(o)
    lacking: list[str] = []
    for members in groups.values():
        if why := _unfit(members):
            place = f"{members[0].settings['loss']}, {members[0].settings['epochs']} epochs, seed {members[0].seed}"
            lacking.append(f"{place}: not pooled, {why}")
        else:
            alone.append(_as_one(members))
    return alone, lacking


def _unfit(members: Sequence[Outcome]) -> str:
    """Why these folds are not all parts of one whole; empty where they are."""
    folds = members[0].settings.get(FOLDS, "null")
    if not (folds.isascii() and folds.isdigit() and 0 < len(folds) < 10 and int(folds)):
        return f"{FOLDS}={folds[:40]} is no number of folds"
    found = {o.settings[FOLD] for o in members}
    count = int(folds)
    strange = sorted(f for f in found if not (f.isascii() and f.isdigit() and int(f[:10]) < count))
    if strange:
        return f"{FOLD}={strange[0][:40]}: accepted are 0..{count - 1}"
    if len(found) < count:
        absent = list(islice((str(i) for i in range(count) if str(i) not in found), 4))
        absent[3:] = ["..."] * (len(absent) > 3)
        return f"fold {', '.join(absent)} has no result"
    images = Counter(name for o in members for name in {*o.counts.names})
    twice = sorted(name for name, times in images.items() if times > 1)
    return f"{len(twice)} image(s), as {twice[0][:40]}, are in two folds" if twice else ""


def _as_one(members: Sequence[Outcome]) -> Outcome:
    counts = Validation(
        [name for o in members for name in o.counts.names],
        [scene for o in members for scene in o.counts.scenes],
        np.concatenate([o.counts.confusion for o in members]),
    )
    settings = members[0].settings | {FOLD: f"{ALL}{len(members)}"}
    return replace(members[0], settings=settings, counts=in_order(counts))


def fold_tables(cells: Sequence[Cell]) -> tuple[list[Table], list[str]]:
    """A table of the pooled cells for each setting that they differ in, and a sentence on each that lacks folds."""
    found, lacking = pooled(of_cells([c for c in cells if c.config.data.get("fold") is not None], Scored())[0])
    differ = [key for key in varying(found) if key not in ("loss", "epochs", FOLD)]
    tables: dict[str, list[Outcome]] = {}
    for o in found:
        names = o.cell.config.names
        title = ", ".join(
            [names.model, names.data, f"{o.settings[FOLD]} folds", *(f"{k}={o.settings[k]}" for k in differ)]
        )
        tables.setdefault(title, []).append(o)
    return [Table(title, [_entry(o, title, members) for o in members]) for title, members in tables.items()], lacking


def _entry(found: Outcome, title: str, among: Sequence[Outcome]) -> Entry:
    """A pooled cell as the report sees cells; it has no run folder of its own, so no curves and no maps."""
    own = found.cell
    numbers = scores(found.counts.confusion.sum(0), list(own.config.classes))
    results = {**own.results, **{s.name: numbers[s.name] for s in SCORES if s.reference}}
    val = {key: None if value != value else value for key, value in numbers.items()}
    folder = f"{own.loss}-e{own.epochs}-s{own.seed}, {found.settings[FOLD]} folds"
    cell = replace(own, table=title, folder=folder, val=val, test={}, notes=[], results=results)
    name = cell_name(own.loss, own.epochs, own.seed, len({o.seed for o in among}))
    return Entry(cell, own.run, own.config, name, validation=found.counts)
