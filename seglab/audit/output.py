"""An audit -> its folder: the page and the tables."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from seglab.audit import features, fingerprint, index, label_issues, overlaps
from seglab.audit.audit import Audit
from seglab.audit.findings import SIDES, TEST, VAL, class_shares, crosses, leaked_share
from seglab.audit.gallery import contradicted, gallery, legend, twice
from seglab.audit.tables import overlap_rows, write_tables
from seglab.machine.files import write_whole
from seglab.pages.page import render

ROWS = 500
"""Rows of a table in the page; the CSV files hold all."""


def write_audit(audit: Audit, out: Path) -> Path:
    """Writes everything into the folder `out` and returns the page's path."""
    out.mkdir(parents=True, exist_ok=True)
    write_tables(audit, out)
    page = out / "audit.html"
    write_whole(page, render("audit.html.j2", **page_values(audit)))
    return page


def default_folder(audit: Audit) -> Path:
    """The folder of an audit that was given none."""
    return Path("outputs", "audit", audit.root.resolve().name)


def page_values(audit: Audit) -> dict[str, Any]:
    """Values for the template of the page."""
    sizes = Counter(record.size for record in audit.records if record.size)
    wrong: Counter[str] = Counter()
    holders: Counter[str] = Counter()
    for record in audit.records:
        wrong.update(record.wrong)
        holders.update(record.wrong.keys())
    pairs = overlap_rows(audit)
    leaked = {side: leaked_share(audit.records, audit.overlaps, side) for side in (VAL, TEST)}
    return {
        **{"audit": audit, "rows": ROWS, "legend": legend(audit.classes), "classes": class_rows(audit)},
        **{"sides": Counter(record.side for record in audit.records), "sizes": sizes.most_common()},
        **{"pixels": sum(w * h * n for (w, h), n in sizes.items())},
        **{"scenes": len({r.pair.scene for r in audit.records if r.pair.scene})},
        **{"wrong": [(value, n, holders[value]) for value, n in wrong.most_common(30)], "pairs": pairs},
        **{"leaks": sum(row["leaks"] for row in pairs), "leaked": leaked},
        **{"duplicates": [duplicate_row(audit, d) for d in audit.duplicates[:ROWS]]},
        **{"gallery": gallery(audit), "twice": twice(audit), "contradicted": contradicted(audit)},
        **{"rules": {**vars(overlaps), **vars(index), **vars(features), **vars(fingerprint), **vars(label_issues)}},
    }


def class_rows(audit: Audit) -> list[dict[str, Any]]:
    """For each class its colour, its shares in all images and in those of each side, and in how many images it is."""
    sides = SIDES if any(record.side == TEST for record in audit.records) else SIDES[:-1]
    shares = [class_shares(audit.records, len(audit.classes), side) for side in (None, *sides)]
    counts = np.array([r.counts for r in audit.records if r.counts is not None]).reshape(-1, len(audit.classes))
    present = (counts > 0).sum(0)
    return [
        {"name": name, "color": color, "shares": [s[k] for s in shares], "images": int(present[k])}
        for k, (name, color) in enumerate(audit.classes.items())
    ]


def duplicate_row(audit: Audit, d: fingerprint.Duplicate) -> dict[str, Any]:
    """A pair of near-duplicates in names."""
    a, b = audit.records[d.a], audit.records[d.b]
    return {"a": a, "b": b, "duplicate": d, "leaks": crosses(audit.records, d.a, d.b)}
