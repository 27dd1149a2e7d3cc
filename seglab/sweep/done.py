"""The event of a finished cell: its report is brought up to date, at a cost that does not grow with the study."""

import logging
import time
from pathlib import Path

from seglab.data import SegmentationData
from seglab.report.page import FILE, update
from seglab.training.cell import Cell

log = logging.getLogger(__name__)

AT_LEAST = 10.0
SHARE = 100
"""Seconds between two updates, and how many times as long as the last one took: at most 1 % of the time goes there.

An update takes 4 ms for each cell of the study: of 300 cells there is one in two minutes, and one when a sweep ends.
"""

_last: dict[Path, tuple[float, float]] = {}  # of each study: when an update ended, and its seconds


def cell_done(cell: Cell, data: SegmentationData) -> None:
    """Updates the report, unless that was done a moment ago by this process or another."""
    study = cell.run.folder.parent
    if not _is_early(study):
        show(study, data)


def show(study: Path, data: SegmentationData | None = None) -> Path | None:
    """Updates the report now. None where that failed, which ends no training."""
    started = time.monotonic()
    page = update(study, data)
    ended = time.monotonic()
    _last[study] = ended, ended - started
    return page


def _is_early(study: Path) -> bool:
    ended, seconds = _last.get(study, (float("-inf"), 0.0))
    wait = max(AT_LEAST, SHARE * seconds)
    page = study / FILE
    written_by_another = page.exists() and 0 <= time.time() - page.stat().st_mtime < wait
    return time.monotonic() - ended < wait or written_by_another
