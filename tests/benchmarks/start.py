"""Start of a job in a sweep: from its overrides to its first training step, after all imports."""

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

from seglab.task.task import SegmentationTask
from seglab.training.row import train_row
from tests.benchmarks.config import composed
from tests.benchmarks.timing import Row


class _Reached(Exception):
    """The first step begins."""


def rows(peer: ModuleType | None, script: Path | None, tiles: Path, seeds: int) -> Iterator[Row]:
    """Seconds: the median of three jobs, after one that is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        argv = ["peer.py", "--root", str(tiles), "--out", folder, "--epochs", "1"]
        theirs = []
        if peer:
            with patch.object(peer.Segmenter, "training_step", _stop), patch.object(sys, "argv", argv):
                theirs = [_seconds(peer.main) for _ in range(4)]
        common = ["data=folder", f"data.root={tiles}", "data.size=224", f"data.cache_dir={folder}/cache", "epochs=1"]

        def job(seed: int) -> None:
            train_row(composed(*common, f"output_dir={folder}", f"seed={seed}"), lambda *_: None)

        with patch.object(SegmentationTask, "training_step", _stop):
            ours = [_seconds(lambda seed=seed: job(seed)) for seed in range(4)]
    plain = statistics.median(theirs[1:]) if theirs else None
    yield Row("start of a job to its first step", plain, statistics.median(ours[1:]), "s")


_at: list[float] = []


def _stop(*_: object) -> None:
    _at.append(time.perf_counter())
    raise _Reached


def _seconds(job) -> float:
    _at.clear()
    start = time.perf_counter()
    with contextlib.suppress(_Reached):  # our row catches it and records a failed cell
        job()
    return _at[0] - start
