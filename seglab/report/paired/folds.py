"""Folds pooled: the cells of all folds as one, in which each image was validated once."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from seglab.report.paired.outcomes import Outcome, in_order
from seglab.run.records import Validation

FOLD, FOLDS = "data.fold", "data.folds"


def pooled(found: Sequence[Outcome]) -> tuple[list[Outcome], list[str]]:
    """The outcomes with those of all folds in the place of each fold's, and a sentence on each that lacks folds.

    The counts of a pooled outcome are those of all its folds: its mIoU is of all images, not a mean over folds.
    """
    alone = [o for o in found if o.settings.get(FOLD, "null") == "null"]
    groups: dict[tuple, list[Outcome]] = {}
    for o in found:
        if o not in alone:
            groups.setdefault((o.without(FOLD), o.seed), []).append(o)
    lacking: list[str] = []
    for members in groups.values():
        wanted = {str(i) for i in range(int(members[0].settings[FOLDS]))}
        absent = sorted(wanted - {o.settings[FOLD] for o in members})
        if absent:
            place = f"{members[0].settings['loss']}, {members[0].settings['epochs']} epochs, seed {members[0].seed}"
            lacking.append(f"{place}: not pooled, fold {', '.join(absent)} has no result")
        else:
            alone.append(_as_one(members))
    return alone, lacking


def _as_one(members: Sequence[Outcome]) -> Outcome:
    counts = Validation(
        [name for o in members for name in o.counts.names],
        [scene for o in members for scene in o.counts.scenes],
        np.concatenate([o.counts.confusion for o in members]),
    )
    settings = members[0].settings | {FOLD: f"all {len(members)}"}
    return replace(members[0], folder=f"{len(members)} folds", settings=settings, counts=in_order(counts))
