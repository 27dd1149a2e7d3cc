"""A data set, as train.py would read it -> everything to know of it before anything trains."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from seglab.audit.agreement import ceiling, confusions
from seglab.audit.findings import SIDES, TEST, TRAIN, UNKNOWN, UNUSED, VAL, Finding, findings, side_counts
from seglab.audit.fingerprint import Duplicate, near_duplicates
from seglab.audit.index import Candidate, candidates
from seglab.audit.overlaps import Overlap, overlaps
from seglab.audit.second_opinion import SecondOpinion, second_opinion
from seglab.audit.survey import Record, Source, survey
from seglab.config.compose import composed
from seglab.config.parts import build_data
from seglab.data import DataError, SegmentationData
from seglab.data.files.resize import resized
from seglab.data.fitness import label_problems, size_problems
from seglab.data.kept.decoding import other_kind
from seglab.pages.pictures import preview

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Audit:
    """All that was found; `faults` are what train.py would refuse."""

    root: Path
    classes: Mapping[str, str]
    source: Source
    records: Sequence[Record]
    faults: Sequence[str]
    duplicates: Sequence[Duplicate]
    overlaps: Sequence[Overlap]
    confusions: Sequence[np.ndarray]
    ceiling: Mapping[str, Any]
    findings: Sequence[Finding]
    opinion: SecondOpinion | None


def audit(overrides: Sequence[str], run: Path | None = None, checkpoint: str = "last") -> Audit:
    """Audits the data of these overrides of train.py, with a run as a second opinion on its labels.

    Faults of files are found, not raised. Raises ValueError, one line, for a wrong command or no data at all.
    """
    overrides = overrides if any(o.startswith("data=") for o in overrides) else ["data=folder", *overrides]
    data = build_data(composed(overrides))
    if not data.root.is_dir():
        what = "is no folder" if data.root.exists() else "no such folder"
        raise ValueError(f"{data.root}: {what}; data.root must hold data/ and label/")
    pairs, faults = data.reader.pairs(data.root)
    if not pairs:
        raise ValueError(f"{data.root}: no pair of an image and a label in it: {'; '.join(faults[:3])}")
    sides = _sides(data, len(pairs), faults)
    source = Source(pairs, data.reader, data.classes)
    opinion = second_opinion(run, checkpoint, data, source) if run else None  # first, since it may refuse
    records = survey(source, sides)
    faults += [fault for record in records for fault in record.faults] + _unfit(data, source, records)
    duplicates = near_duplicates([record.fingerprint for record in records])
    found = _overlaps(source, records, duplicates)
    cms = confusions(found, lru_cache(8)(lambda i: source.load(i).mask), len(data.classes))
    top = ceiling(found, cms, [pair.name for pair in pairs], data.classes)
    issues = opinion.issues if opinion else ()
    said = findings(records, list(data.classes), faults, duplicates, found, top, issues)
    return Audit(data.root, data.classes, source, records, faults, duplicates, found, cms, top, said, opinion)


def _sides(data: SegmentationData, count: int, faults: list[str]) -> list[str]:
    """The side of each pair; where the split is impossible, that is a fault."""
    try:
        sides = data.pair_sides
    except DataError as e:
        faults += e.problems
        return [UNKNOWN] * count
    side_of = {i: side for side, indices in zip(SIDES, sides, strict=True) for i in indices}
    return [side_of.get(i, UNUSED) for i in range(count)]


def _unfit(data: SegmentationData, source: Source, records: Sequence[Record]) -> list[str]:
    """Problems that training has with sizes, labels and transforms of files that can be read."""
    train = [i for i, record in enumerate(records) if record.side == TRAIN]
    out = size_problems(data, {size for i in train if (size := records[i].size)})
    kinds = [(record.pair.image, record.kind) for record in records if record.kind]
    out += [why for path, kind in kinds if (why := other_kind(path, kind, kinds[0][1]))]
    if any(record.faults for record in records) or not train:
        return out
    counts = {side: side_counts(records, len(data.classes), side) for side in (TRAIN, VAL)}
    out += label_problems(data, counts, sum(record.void for record in records if record.side != TEST))
    sample = source.load(train[0])
    if not out and sample.image is not None and sample.mask is not None:
        image, _ = resized(sample.image, sample.mask, data.size)
        out += data.augmentation.faults(image, data.batch_size)
    return out


def _overlaps(source: Source, records: Sequence[Record], duplicates: Sequence[Duplicate]) -> list[Overlap]:
    proposed = {(c.a, c.b): c for c in candidates([record.features for record in records])}
    for d in duplicates:
        if records[d.a].size == records[d.b].size:
            proposed[d.a, d.b] = Candidate(d.a, d.b, (0, 0), 0)
    scale = next((record.features.scale for record in records if record.features), 1.0)

    @lru_cache(8)
    def image(i: int) -> np.ndarray | None:
        found = source.load(i).image
        return None if found is None else preview(found)

    return overlaps([proposed[key] for key in sorted(proposed)], image, scale)
