"""Findings of an audit, in sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seglab.audit.fingerprint import Duplicate
from seglab.audit.label_issues import Issue
from seglab.audit.overlaps import SAME_GROUND, SAME_PIXELS, Overlap
from seglab.audit.survey import Record
from seglab.data.presence import TEST, TRAIN, VAL, absent_classes
from seglab.data.problems import grouped

SIDES = (TRAIN, VAL, TEST)
UNKNOWN = "unknown"
"""Side of every image where no split is possible."""
UNUSED = "unused"
"""Side of an image that `train_scenes` leave out."""
MOSTLY = DWARFS = 0.5
"""A class with more than this share is said to dwarf the rest."""


@dataclass(frozen=True)
class Finding:
    """`level` is bad (stops training or spoils its score), warning, or good; `text` is a sentence or two."""

    level: str
    text: str


def crosses(records: Sequence[Record], a: int, b: int) -> bool:
    """True if two images are on two sides of the split."""
    sides = {records[a].side, records[b].side} & {*SIDES}
    return len(sides) == 2


def class_shares(records: Sequence[Record], num_classes: int, side: str | None = None) -> np.ndarray:
    """Share of each class `[K]` over all labelled pixels of a side, or of all; nan where there are none."""
    total = side_counts(records, num_classes, side)
    return total / total.sum() if total.sum() else np.full(num_classes, np.nan)


def side_counts(records: Sequence[Record], num_classes: int, side: str | None = None) -> np.ndarray:
    """Pixels of each class `int64 [K]` in the usable labels of a side, or of all."""
    counts = [r.counts for r in records if r.counts is not None and side in (None, r.side)]
    return np.array(counts, np.int64).reshape(-1, num_classes).sum(0)


def leaked_share(records: Sequence[Record], found: Sequence[Overlap], side: str = VAL) -> float:
    """Share of the pixels of a side that images of the sides before it show, too: training, for the test also VAL."""
    before = SIDES[: SIDES.index(side)]
    seen: dict[int, np.ndarray] = {}
    for o in found:
        first = records[o.a].side == side
        if side in (records[o.a].side, records[o.b].side) and records[o.b if first else o.a].side in before:
            i, x, y = (o.a, max(0, -o.dx), max(0, -o.dy)) if first else (o.b, max(0, o.dx), max(0, o.dy))
            width, height = records[i].size or (0, 0)
            seen.setdefault(i, np.zeros((height, width), bool))[y : y + o.height, x : x + o.width] = True
    total = sum(r.size[0] * r.size[1] for r in records if r.side == side and r.size)
    return sum(int(m.sum()) for m in seen.values()) / total if total else 0.0


def findings(
    records: Sequence[Record],
    classes: Sequence[str],
    faults: Sequence[str],
    duplicates: Sequence[Duplicate],
    found: Sequence[Overlap],
    ceiling: Mapping[str, Any],
    issues: Sequence[Issue] = (),
) -> list[Finding]:
    """Everything worth saying, the worst first."""
    out = [*_faults(faults), *_leaks(records, duplicates, found), *_classes(records, classes), *_turned(records)]
    out += _copies(records, duplicates, found) + _ceiling(ceiling) + _contradictions(records, issues)
    order = {"bad": 0, "warning": 1, "good": 2}
    return sorted(out, key=lambda f: order[f.level])


def _faults(faults: Sequence[str]) -> list[Finding]:
    if not faults:
        text = "Every file can be read, every image has its label, and every label holds only classes."
        return [Finding("good", text)]
    count = plural(len(faults), "fault")
    lines = grouped(faults)
    return [Finding("bad", f"{count} that train.py refuses with these settings: {lines[0]}{_more(lines)}")]


def _turned(records: Sequence[Record]) -> list[Finding]:
    names = [r.pair.name for r in records if r.orientation in range(2, 9)]
    if not names:
        return []
    text = f"{plural(len(names), 'image')} turned upright, as the EXIF orientation says"
    return [Finding("warning", f"{text}: {_some(names)}. Their labels must fit what a viewer shows.")]


def _more(items: Sequence[Any]) -> str:
    return f" (and {len(items) - 1} more, listed below)" if len(items) > 1 else ""


def plural(count: int, noun: str) -> str:
    """`1 fault`, `2 faults`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def quoted(name: str) -> str:
    """A class name in a sentence."""
    return f"“{name}”"


def _leaks(records: Sequence[Record], duplicates: Sequence[Duplicate], found: Sequence[Overlap]) -> list[Finding]:
    if all(r.side == UNKNOWN for r in records):
        return []
    alike: list[Overlap | Duplicate] = [*found, *duplicates]
    pairs = {(o.a, o.b) for o in alike if crosses(records, o.a, o.b)}
    if not pairs:
        return [Finding("good", "No picture and no ground was found on two sides of the split.")]
    a, b = min(pairs)
    example = f"for example {records[a].pair.name} ({records[a].side}) and {records[b].pair.name} ({records[b].side})"
    shares = [f"{leaked_share(records, found):.1%} of the validation pixels lie on ground that also trains"]
    choose = "data.val_scenes"
    if any(r.side == TEST for r in records):
        shares.append(f"{leaked_share(records, found, TEST):.1%} of the test pixels on ground that trains or validates")
        choose += " and data.test_scenes"
    return [
        Finding(
            "bad",
            f"The split leaks: {plural(len(pairs), 'pair')} of images show the same on two sides, {example}. "
            f"{', and '.join(shares)}, so scores there are too good. "
            f"Give such images one scene in scenes.csv, or choose {choose}.",
        )
    ]


def _classes(records: Sequence[Record], classes: Sequence[str]) -> list[Finding]:
    overall = class_shares(records, len(classes))
    counts = {side: side_counts(records, len(classes), side) for side in (*SIDES, UNUSED, UNKNOWN)}
    out: list[Finding | None] = [Finding("bad", sentence) for sentence in absent_classes(counts, classes)]
    out.append(_dwarfing(classes, overall))
    unlabelled = sum(r.void for r in records)
    if unlabelled:
        share = unlabelled / (unlabelled + sum(int(r.counts.sum()) for r in records if r.counts is not None))
        known = f" ({share:.1%})" if share >= 0.001 else ""
        out.append(
            Finding("warning", f"{plural(unlabelled, 'pixel')}{known} without a label: they neither train nor count.")
        )
    return [finding for finding in out if finding]


def _dwarfing(classes: Sequence[str], overall: np.ndarray) -> Finding | None:
    if not overall.max() > DWARFS:
        return None
    first, second = np.argsort(-overall, kind="stable")[:2]
    share = overall[first]
    constant = share / (overall > 0).sum()
    ratio = f", {share / overall[second]:.1f} times as much as {quoted(classes[second])}" if overall[second] else ""
    return Finding(
        "warning",
        f"{quoted(classes[first])} dwarfs the rest: it covers {share:.1%} of the labelled pixels{ratio}. A map of "
        f"nothing else has {share:.1%} of its pixels right and an mIoU of {constant:.3f}: judge by the IoU of each "
        "class, not by accuracy.",
    )


def _copies(records: Sequence[Record], duplicates: Sequence[Duplicate], found: Sequence[Overlap]) -> list[Finding]:
    def example(pairs: Sequence[Duplicate | Overlap]) -> str:
        return f"{records[pairs[0].a].pair.name} and {records[pairs[0].b].pair.name}{_more(pairs)}."

    out = []
    whole = {(d.a, d.b) for d in duplicates}
    if duplicates:
        exact = sum(d.identical for d in duplicates)
        text = f"{plural(len(duplicates), 'pair')} of images are near-duplicates, {exact} of them equal in every pixel"
        out.append(Finding("warning", f"{text}: {example(duplicates)}"))
    for kind, what in ((SAME_PIXELS, "cuts of the same picture"), (SAME_GROUND, "the same ground at another time")):
        chosen = [o for o in found if o.kind == kind and (o.a, o.b) not in whole]
        if chosen:
            text = f"{plural(len(chosen), 'pair')} of images show {what}, {sum(o.pixels for o in chosen):,} pixels"
            out.append(Finding("warning", f"{text}: {example(chosen)}"))
    return out


def _contradictions(records: Sequence[Record], issues: Sequence[Issue]) -> list[Finding]:
    """Labels that a run contradicts, in the order of its issues."""
    out = []
    wrong = [records[i.index].pair.name for i in issues if i.disagreeing > MOSTLY]
    if wrong:
        text = f"{plural(len(wrong), 'label')} of which the run contradicts most pixels"
        out.append(Finding("warning", f"{text}: {_some(wrong)}."))
    moved = [f"{records[i.index].pair.name} ({i.shift[0]:+d}, {i.shift[1]:+d})" for i in issues if i.gain]
    if moved:
        text = f"{plural(len(moved), 'label')} would fit the run's map better if moved (pixels right, down)"
        out.append(Finding("warning", f"{text}: {_some(moved)}."))
    return out


def _some(items: Sequence[str], shown: int = 6) -> str:
    return ", ".join(items[:shown]) + (f" and {len(items) - shown} more" if len(items) > shown else "")


def _ceiling(ceiling: Mapping[str, Any]) -> list[Finding]:
    if ceiling["miou"] is None:
        return []
    low, worst = min((v, c) for c, v in ceiling["iou"].items() if v is not None)
    return [
        Finding(
            "warning",
            f"{ceiling['pixels']:,} pixels were labelled twice, and the two labellings agree with an mIoU of "
            f"{ceiling['miou']:.3f} ({ceiling['agreement']:.1%} of the pixels; {quoted(worst)} only {low:.2f}). "
            "A map that scores much higher against one of them is overfitted to it.",
        )
    ]
