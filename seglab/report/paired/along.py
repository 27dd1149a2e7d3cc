"""Cells that differ in one setting alone, paired by image and seed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from seglab.config.schema import did_you_mean
from seglab.pages.markdown import markdown_table
from seglab.report.comparison import units_of
from seglab.report.paired.outcomes import Outcome, varying
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
from seglab.scores import MAIN, by_key

PAIRED = {"seed": "cells are paired by it", "data.fold": "folds are pooled"}
"""Settings along which nothing is compared, and why."""

NOT_DISTINGUISHABLE, TOO_FEW = "not distinguishable", "not enough evidence"


@dataclass(frozen=True)
class Contrast:
    """Two values of a setting where all else is equal: `place` holds what else varies among the cells compared.

    `scores` are means of the score of this key. `difference` is that of `second` minus that of `first`, None where
    there are too few images or scenes. `adjusted` is its p value after Holm's correction for all contrasts. `seeds` are
    those that both have.
    """

    key: str
    score: str
    place: dict[str, str]
    first: str
    second: str
    scores: tuple[Mean, Mean]
    seeds: int
    units: str
    difference: Difference | None
    adjusted: float = float("nan")

    @property
    def verdict(self) -> str:
        """The answer in one or two words."""
        if self.difference is None:
            return TOO_FEW
        if not self.adjusted < 1 - LEVEL:
            return NOT_DISTINGUISHABLE
        return f"{self.second if self.difference.value > 0 else self.first} is better"


def along(found: Sequence[Outcome], key: str, score: str = MAIN.name) -> list[Contrast]:
    """The contrasts between each two values of a setting, for cells that are equal in all other settings.

    They are compared by the score of a key such as `miou` or `iou/<class>`. Keys joined by commas count as one setting.

    Raises ValueError, one line, where no cells differ in it alone, or two labels of one image are compared.
    """
    if len(found) < 2:
        left = f"{len(found) or 'no'} finished cell is left to compare"
        raise ValueError(f"--along {key}: {left}; accepted are two or more, with all their folds")
    if key in PAIRED:
        raise ValueError(f"--along {key}: {PAIRED[key]}; accepted is another setting")
    varies = varying(found)
    for part in key.split(","):
        if part not in varies:
            known = part in found[0].settings
            why = f"all cells have the same {part}" if known else f"no setting of these cells is {part or 'empty'}"
            raise ValueError(f"--along {key}: {why}" + (f"; {did_you_mean(part, varies)}" if varies else ""))
    found = [_together(o, key.split(",")) for o in found]
    varies = varying(found)
    groups: dict[tuple, list[Outcome]] = {}
    for o in found:
        groups.setdefault(o.without(key), []).append(o)
    alike = [members for members in groups.values() if len({o.settings[key] for o in members}) > 1]
    if not alike:
        others = ", ".join(k for k in varies if k != key)
        raise ValueError(f"--along {key}: no two cells differ in it alone; they also differ in {others}")
    named = [k for k in ("loss", "epochs") if k in found[0].settings]
    shown = list(dict.fromkeys([*named, *(k for k in varies if k != key)]))
    out = [contrast for members in alike for contrast in _contrasts(members, key, shown, score)]
    judged = [c for c in out if c.difference]
    adjusted = iter(holm([c.difference.p for c in judged if c.difference]))
    return [replace(c, adjusted=next(adjusted)) if c.difference else c for c in out]


def _together(found: Outcome, keys: Sequence[str]) -> Outcome:
    """The same outcome, of which several settings are one."""
    values = {",".join(keys): ", ".join(found.settings[key] for key in keys)}
    return replace(found, settings={k: v for k, v in found.settings.items() if k not in keys} | values)


def _contrasts(members: Sequence[Outcome], key: str, shown: Sequence[str], score: str) -> list[Contrast]:
    sides: dict[str, list[Outcome]] = {}
    for o in sorted(members, key=lambda o: (_order(o.settings[key]), o.seed)):
        sides.setdefault(o.settings[key], []).append(o)
    place = {k: members[0].settings[k] for k in shown if k != key}
    return [_contrast(key, score, place, (a, sides[a]), (b, sides[b])) for a, b in combinations(sides, 2)]


def _contrast(
    key: str, score: str, place: dict[str, str], first: tuple[str, list[Outcome]], second: tuple[str, list[Outcome]]
) -> Contrast:
    (a, left), (b, right) = first, second
    left, right, shared = of_shared_seeds(left, right, lambda o: o.seed)
    _check_labels(key, a, b, left + right)
    units, unit, basis, _ = units_of(left[0].counts)
    scores = [[o.score(score) for o in side] for side in (left, right)]
    count = len(set(units))
    known = _difference([left, right], scores, units, score) if count >= LEAST_UNITS else None
    means = seed_mean(scores[0]), seed_mean(scores[1])
    return Contrast(key, score, place, a, b, means, len(shared), basis if known else f"{count} {unit}s", known)


def _difference(
    sides: Sequence[list[Outcome]], scores: Sequence[list[float]], units: Sequence[str], score: str
) -> Difference:
    counts = [sums_by_unit(o.counts.confusion, units) for side in sides for o in side]
    samples = resampled(counts, score=by_key(score, sides[0][0].classes))
    at = len(sides[0])
    drawn = samples[:, at:].mean(1) - samples[:, :at].mean(1)
    return difference(scores[1], scores[0], drawn, len(set(units)))


def _check_labels(key: str, a: str, b: str, found: Sequence[Outcome]) -> None:
    """Raises ValueError unless all were scored on the same labels of the same images."""
    names = [o.counts.names for o in found]
    what = f"--along {key}: {a} and {b}"
    if any(own != names[0] for own in names):
        raise ValueError(f"{what} were validated on other images; accepted is one split for both, or all its folds")
    labels = [o.counts.confusion.sum(2) for o in found]
    if any((own != labels[0]).any() for own in labels):
        raise ValueError(
            f"{what} were scored on other labels of the same images; accepted are --original or --content, "
            "after seglab evaluate RUN --data ROOT for each run, with --original for labels of their own size"
        )


def _order(value: str) -> tuple[int, float, str]:
    """Numbers by size, before text; none before all."""
    if value == "null":
        return 0, 0.0, value
    try:
        return 1, float(value), value
    except ValueError:
        return 2, 0.0, value


def judged_by(contrasts: Sequence[Contrast]) -> str:
    """A sentence on how the verdicts were reached."""
    basis = " or ".join(dict.fromkeys(c.units for c in contrasts if c.difference))
    few = sorted({c.units for c in contrasts if not c.difference})
    many = f"{len(contrasts)} contrast{'s' * (len(contrasts) != 1)}"
    said = [f"Judged by a paired bootstrap over {basis}, at 5% after Holm's correction for {many}."]
    told = [f"With {' or '.join(few)} nothing can be said: at least {LEAST_UNITS} are needed."] if few else []
    return " ".join((said if basis else []) + told)


def rows(contrasts: Sequence[Contrast]) -> list[list[str]]:
    """Header and a row for each contrast."""
    if not contrasts:
        return []
    first = contrasts[0]
    score = MAIN.label if first.score == MAIN.name else first.score
    out = [[*first.place, first.key, score, "against", score, "seeds", "difference, 95 % interval", "p", "verdict"]]
    for c in contrasts:
        d = c.difference
        interval = f"{d.value:+.3f} ({d.low:+.3f} to {d.high:+.3f})" if d else _gap(c)
        p = "" if d is None else "< 0.001" if c.adjusted < 0.001 else f"{c.adjusted:.3f}"
        scores = [f"{mean.value:.3f}" for mean in c.scores]
        out.append([*c.place.values(), c.second, scores[1], c.first, scores[0], str(c.seeds), interval, p, c.verdict])
    return out


def told(contrasts: Sequence[Contrast]) -> str:
    """Contrasts as a table in markdown, and how they were judged."""
    return f"{markdown_table(rows(contrasts))}\n\n{judged_by(contrasts)}"


def _gap(c: Contrast) -> str:
    return f"{c.scores[1].value - c.scores[0].value:+.3f}"
