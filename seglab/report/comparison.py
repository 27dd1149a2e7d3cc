"""Comparison of cells: the best one, those not distinguishable from it, and sentences that say so."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from seglab.report.statistics import (
    LEAST_UNITS,
    LEVEL,
    Difference,
    Mean,
    difference,
    holm,
    of_shared_seeds,
    resampled,
    seed_mean,
    sums_by_unit,
)
from seglab.report.study import Entry, Table, cell_name
from seglab.run.records import Validation
from seglab.scores import miou

MOST_NAMED = 8
"""Cells that a sentence lists."""


@dataclass
class Group:
    """The seeds of one loss and number of epochs: one field of the heat map."""

    loss: str
    epochs: int
    entries: list[Entry]

    @property
    def name(self) -> str:
        """Loss and epochs."""
        return cell_name(self.loss, self.epochs, 0, 1)

    @property
    def done(self) -> list[Entry]:
        """Entries with a score."""
        return [e for e in self.entries if e.done]

    @property
    def mean(self) -> Mean | None:
        """Mean mIoU over its finished seeds."""
        return seed_mean([e.miou for e in self.done]) if self.done else None


@dataclass
class Rival:
    """A group against the best: the best's score minus its own, and the p value that Holm's method adjusted."""

    group: Group
    difference: Difference
    adjusted: float

    @property
    def distinguishable(self) -> bool:
        """True if the group is significantly lower than the best."""
        return self.adjusted < 1 - LEVEL


@dataclass
class Comparison:
    """The best group, the others against it (none if nothing can be said), and the sentences."""

    groups: list[Group]
    best: Group | None
    rivals: list[Rival]
    units: int
    unit: str
    sentence: str
    caveats: list[str]

    @property
    def ties(self) -> list[Rival]:
        """Rivals not distinguishable from the best."""
        return [r for r in self.rivals if not r.distinguishable]


def groups_of(table: Table) -> list[Group]:
    """The groups of a table, finished or not."""
    out: dict[tuple[str, int], Group] = {}
    for e in table.entries:
        key = (e.cell.loss, e.cell.epochs)
        out.setdefault(key, Group(*key, [])).entries.append(e)
    return list(out.values())


def compare(table: Table) -> Comparison:
    """Best and rivals of a table.

    Every pair of groups is tested, and Holm's method corrects for all pairs. The best was chosen by the same scores
    that are compared, so tests against it alone would claim too much.
    """
    groups = groups_of(table)
    scored = [g for g in groups if g.mean]
    best = max(scored, key=lambda g: g.mean.value if g.mean else 0.0, default=None)
    if best is None:
        return Comparison(groups, None, [], 0, "image", "No cell has a score yet.", [])
    units, unit, basis, caveats = units_of(table.compared[0].validation if table.compared else None)
    sides = [Group(g.loss, g.epochs, [e for e in g.done if e in table.compared]) for g in scored]
    sides = [s for s in sides if s.entries]
    names = {(s.loss, s.epochs) for s in sides}
    if len(scored) == 1:
        return Comparison(groups, best, [], len(set(units)), unit, _alone(best), caveats)
    if len(set(units)) < LEAST_UNITS or (best.loss, best.epochs) not in names or len(sides) < 2:
        why = _refusal(best, len(set(units)), unit, len(sides))
        return Comparison(groups, best, [], len(set(units)), unit, why, caveats)
    rivals = _rivals(sides, best, units)
    caveats += _seed_caveat(sides)
    return Comparison(groups, best, rivals, len(set(units)), unit, _sentence(best, rivals, basis), caveats)


def units_of(found: Validation | None) -> tuple[list[str], str, str, list[str]]:
    """The unit of each image: its scene if enough scenes are known, else the image itself.

    Also the name of a unit, the units in words, and the caveats that follow.
    """
    if found is None:
        return [], "image", "no images", []
    images = len(found.names)
    scenes = len(set(found.scenes))
    alone = f"{images} validation images"
    if not all(found.scenes):
        why = "The scenes of the images are not known. If several images show one scene, intervals are too narrow."
        return found.names, "image", f"{alone} of unknown scenes", [why]
    if scenes == images:
        return found.names, "image", alone, []
    if scenes >= LEAST_UNITS:
        return found.scenes, "scene", f"{scenes} validation scenes", []
    these = "these scenes" if scenes > 1 else "this scene"
    why = (
        f"Images of one scene resemble each other, so intervals are too narrow and hold for images of {these} only. "
        f"A claim about other scenes needs at least {LEAST_UNITS} scenes."
    )
    return found.names, "image", f"{alone} of only {scenes} scene{'s' * (scenes > 1)}", [why]


def _rivals(sides: Sequence[Group], best: Group, units: Sequence[str]) -> list[Rival]:
    counts = {
        e.cell.folder: sums_by_unit(e.validation.confusion, units) for s in sides for e in s.entries if e.validation
    }
    place = {folder: i for i, folder in enumerate(counts)}
    samples = resampled(list(counts.values()))
    score = {folder: float(miou(c.sum(0))) for folder, c in counts.items()}

    def against(a: Group, b: Group) -> Difference:
        left, right, _ = of_shared_seeds(a.entries, b.entries, lambda e: e.cell.seed)
        folders = [[e.cell.folder for e in side] for side in (left, right)]
        drawn = [np.mean([samples[:, place[f]] for f in side], 0) for side in folders]
        scores = [[score[f] for f in side] for side in folders]
        return difference(scores[0], scores[1], drawn[0] - drawn[1], len(set(units)))

    pairs = list(combinations(range(len(sides)), 2))
    found = {(i, j): against(sides[i], sides[j]) for i, j in pairs}
    adjusted = dict(zip(pairs, holm([found[p].p for p in pairs]), strict=True))
    at = next(i for i, s in enumerate(sides) if (s.loss, s.epochs) == (best.loss, best.epochs))
    out = []
    for i, side in enumerate(sides):
        if i != at:
            out.append(Rival(side, against(sides[at], side), adjusted[min(i, at), max(i, at)]))
    return sorted(out, key=lambda r: r.difference.value)


def _seed_caveat(sides: Sequence[Group]) -> list[str]:
    counts = [len(s.entries) for s in sides]
    if min(counts) > 1:
        return []
    who = "Each cell was" if max(counts) == 1 else "Some cells were"
    return [f"{who} trained with one seed, so the spread over seeds is not known and intervals leave it out."]


def _alone(best: Group) -> str:
    assert best.mean
    return f"{best.name} is the only cell with a score: validation mIoU {best.mean.value:.3f}."


def _refusal(best: Group, units: int, unit: str, sides: int) -> str:
    assert best.mean
    head = f"The highest validation mIoU is {best.mean.value:.3f} ({best.name}), but "
    if sides < 2 or not units:
        return (
            head + "too few cells hold the counts of each image (validation.csv) to say whether others differ from it."
        )
    return head + (
        f"with {units} validation {unit}{'s' * (units != 1)} nothing can be said about whether the others differ from "
        f"it: at least {LEAST_UNITS} are needed."
    )


def _sentence(best: Group, rivals: Sequence[Rival], basis: str) -> str:
    assert best.mean
    ties = [r.group.name for r in rivals if not r.distinguishable]
    lower = [r.group.name for r in rivals if r.distinguishable]
    seeds = f", mean of {best.mean.n} seeds" if best.mean.n > 1 else ""
    parts = [f"The highest validation mIoU is {best.mean.value:.3f} ({best.name}{seeds})."]
    if ties:
        parts.append(f"Not distinguishable from it: {_listed(ties)}.")
    if lower:
        parts.append(f"Significantly lower: {_listed(lower)}.")
    parts.append(f"Judged by a paired bootstrap over {basis}, at 5% after Holm's correction for all pairs")
    return " ".join(parts) + (". Not distinguishable does not mean equal." if ties else ".")


def _listed(names: Sequence[str]) -> str:
    shown = [*names[:MOST_NAMED], f"{len(names) - MOST_NAMED} more (below)"] if len(names) > MOST_NAMED else list(names)
    return "; ".join(shown)
