"""The files of an audit besides its page: what a program reads."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seglab.audit.audit import Audit
from seglab.audit.findings import crosses
from seglab.audit.fingerprint import Duplicate
from seglab.audit.overlaps import Overlap
from seglab.machine.files import without_nan, write_whole


def write_tables(audit: Audit, out: Path) -> None:
    """audit.csv, overlaps.csv, faults.txt, ceiling.json, and with a run label_issues.csv; replaces those there."""
    write_whole(out / "audit.csv", _csv(image_rows(audit)))
    write_whole(out / "overlaps.csv", _csv(overlap_rows(audit)))
    write_whole(out / "faults.txt", "".join(f"{fault}\n" for fault in audit.faults))
    write_whole(out / "ceiling.json", json.dumps(without_nan(audit.ceiling), indent=2, allow_nan=False))
    issues = out / "label_issues.csv"
    if audit.opinion:
        write_whole(issues, _csv(issue_rows(audit)))
    else:
        issues.unlink(missing_ok=True)  # of an earlier audit, of other labels perhaps


def image_rows(audit: Audit) -> list[dict[str, Any]]:
    """One row an image."""
    names = [record.pair.name for record in audit.records]
    duplicates, overlaps = (_partners(found, names) for found in (audit.duplicates, audit.overlaps))
    alike: list[Overlap | Duplicate] = [*audit.overlaps, *audit.duplicates]
    leaks = {i for o in alike if crosses(audit.records, o.a, o.b) for i in (o.a, o.b)}
    rows = []
    for i, record in enumerate(audit.records):
        shares = record.shares
        width, height = record.size or ("", "")
        rows.append(
            {
                **{"name": record.pair.name, "scene": record.pair.scene or "", "split": record.side},
                **{"width": width, "height": height, "unlabelled_pixels": record.void},
                **{f"share/{c}": "" if shares is None else f"{shares[k]:.6f}" for k, c in enumerate(audit.classes)},
                **{"duplicates": "|".join(duplicates[i]), "overlaps": "|".join(overlaps[i])},
                **{"leaks": int(i in leaks), "faults": "|".join(record.faults)},
            }
        )
    return rows


def _partners(found: Sequence[Duplicate | Overlap], names: Sequence[str]) -> dict[int, list[str]]:
    out: dict[int, list[str]] = defaultdict(list)
    for o in found:
        out[o.a].append(names[o.b])
        out[o.b].append(names[o.a])
    return out


def overlap_rows(audit: Audit) -> list[dict[str, Any]]:
    """One row a pair of images that show the same; a near-duplicate without common pixels has no place."""
    rows = []
    placed = {(o.a, o.b) for o in audit.overlaps}
    for o, pair in zip(audit.overlaps, audit.ceiling["pairs"], strict=True):
        labels = {f"iou/{c}": _number(v) for c, v in pair["iou"].items()}
        place = {k: pair[k] for k in ("dx", "dy", "width", "height")} | {"pixels": o.pixels}
        counted = {"labels_agree": _number(pair["agreement"]), "ceiling": int(pair["counted"])}
        rows.append(_pair(audit, o.a, o.b, o.kind, o.correlation) | place | counted | labels)
    nothing = dict.fromkeys(["dx", "dy", "width", "height", "pixels", "labels_agree", "ceiling"], "")
    nothing |= {f"iou/{c}": "" for c in audit.classes}
    alone = [d for d in audit.duplicates if (d.a, d.b) not in placed]
    return rows + [_pair(audit, d.a, d.b, "near-duplicate", d.alike) | nothing for d in alone]


def _pair(audit: Audit, a: int, b: int, kind: str, correlation: float) -> dict[str, Any]:
    first, second = audit.records[a], audit.records[b]
    names = {"a": first.pair.name, "b": second.pair.name, "split_a": first.side, "split_b": second.side}
    return names | {"leaks": int(crosses(audit.records, a, b)), "kind": kind, "correlation": f"{correlation:.4f}"}


def issue_rows(audit: Audit) -> list[dict[str, Any]]:
    """One row an image, the most contradicted label first."""
    assert audit.opinion
    rows = []
    classes = list(audit.classes)
    seen = audit.opinion.seen
    for rank, issue in enumerate(audit.opinion.issues, 1):
        record = audit.records[issue.index]
        largest = issue.regions[0] if issue.regions else None
        region = {"x": largest.x, "y": largest.y, "width": largest.width, "height": largest.height} if largest else {}
        rows.append(
            {
                **{"rank": rank, "name": record.pair.name, "split": record.side},
                **{"trained_on": "" if seen is None else int(record.pair.name in seen)},
                **{"score": _number(issue.score), "disagreeing": _number(issue.disagreeing)},
                **{"shift_x": issue.shift[0], "shift_y": issue.shift[1], "shift_gain": f"{issue.gain:.4f}"},
                **{"regions": len(issue.regions), "given": classes[largest.given] if largest else ""},
                **{"predicted": classes[largest.predicted] if largest else ""},
                **{f"region_{k}": region.get(k, "") for k in ("x", "y", "width", "height")},
            }
        )
    return rows


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.6f}"


def _csv(rows: Iterable[Mapping[str, Any]]) -> str:
    rows = list(rows)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else ["a", "b"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
