"""The run folder: every file name, its one writer, its one reader."""

import csv
import io
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from filelock import FileLock, Timeout

from seglab.machine.files import without_nan, write_whole
from seglab.run.records import RecordError, Records
from seglab.scores import SCORES, flattened, keys, scores

DONE, FAILED, DIVERGED, INTERRUPTED, RUNNING = "done", "failed", "diverged", "interrupted", "running"
"""What a run can be; a run that was killed is interrupted, too."""


class RunHeld(RuntimeError):
    """Another process trains this run."""


class Run:
    """`outputs/<study>/<model>-<loss>-e<epochs>-s<seed>-<short hash>/`: all there is to know about one cell."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self.config_file = self.folder / "config.yaml"
        self.metrics_file = self.folder / "metrics.csv"
        self.times_file = self.folder / "times.csv"
        self.counts_file = self.folder / "counts.csv"
        self.log_file = self.folder / "train.log"
        self.environment_file = self.folder / "environment.json"
        self.results_file = self.folder / "results.json"
        self.last_checkpoint = self.folder / "checkpoints" / "last.ckpt"
        self.previous_checkpoint = self.folder / "checkpoints" / "previous.ckpt"
        self.best_checkpoint = self.folder / "checkpoints" / "best.ckpt"
        self.pictures = self.folder / "pictures"
        self.command_file = self.folder / "command.txt"
        self.profile_table = self.folder / "profile.csv"
        self.profile_text = self.folder / "profile.md"
        self.records = Records(self.folder)
        self._lock = FileLock(self.folder / ".lock")
        self._holder_file = self.folder / ".holder"

    def hold(self) -> None:
        """Makes this process the only one that writes here, until `release` or its end. Raises RunHeld."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=1)  # longer than a reader takes to see whether it is held
        except Timeout:
            holder = self._holder_file.read_text() if self._holder_file.exists() else "another process"
            raise RunHeld(f"{self.folder} is being trained by {holder}") from None
        write_whole(self._holder_file, f"process {os.getpid()} on {socket.gethostname()}")

    def release(self) -> None:
        """Lets other processes write here."""
        self._lock.release()

    def start(self, config: Mapping[str, Any], environment: Mapping[str, Any], epochs: int = 0) -> None:
        """A folder that says what will run and holds the first `epochs` epochs of what ran before."""
        for folder in (self.last_checkpoint.parent, self.pictures):
            folder.mkdir(parents=True, exist_ok=True)
        self.results_file.unlink(missing_ok=True)
        for path in (self.metrics_file, self.times_file, self.counts_file):
            self._write_rows(path, [row for row in _rows(path) if int(row["epoch"]) <= epochs])
        write_whole(self.config_file, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
        self.write_environment(environment)

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Keeps where and on what it is trained."""
        write_whole(self.environment_file, json.dumps(environment, indent=2))

    def take_over(self, other: "Run", epochs: int) -> None:
        """The rows and the log of the first `epochs` epochs of another run of the same identity."""
        self.folder.mkdir(parents=True, exist_ok=True)
        found = {self.metrics_file: other._metrics(), self.times_file: _rows(other.times_file)}
        for path, rows in {**found, self.counts_file: _rows(other.counts_file)}.items():
            self._write_rows(path, [row for row in rows if int(row["epoch"]) <= epochs])
        with self.log_file.open("a") as f:  # appended: whoever trains this run writes into the same file already
            f.write(other.log_file.read_text() if other.log_file.exists() else "")

    def write_command(self, command: str) -> None:
        """Keeps what was typed."""
        write_whole(self.command_file, command + "\n")

    def command(self) -> str | None:
        """What was typed to train it; None where that is not known."""
        return self.command_file.read_text().strip() if self.command_file.exists() else None

    def write_profile(self, rows: Sequence[Mapping[str, str | float]], text: str) -> None:
        """Where the time went, as a table of phases and in words."""
        self._write_rows(self.profile_table, [{k: str(v) for k, v in row.items()} for row in rows])
        write_whole(self.profile_text, text)

    def profile(self) -> list[dict[str, str]]:
        """The rows of profile.csv; none of a run that was not profiled."""
        return _rows(self.profile_table)

    def config(self) -> dict[str, Any]:
        """The resolved config, and under `names` which file of each group was chosen."""
        if not self.config_file.exists():
            raise FileNotFoundError(f"{self.folder}: no config.yaml; accepted is a run folder outputs/<study>/<run>")
        return yaml.safe_load(self.config_file.read_text())

    def environment(self) -> dict[str, Any]:
        """What environment.json says."""
        return json.loads(self.environment_file.read_text())

    def add_epoch(
        self,
        numbers: Mapping[str, float | int],
        times: Mapping[str, float | int],
        counts: Mapping[str, np.ndarray] | None = None,
        class_names: Sequence[str] = (),
    ) -> None:
        """Appends one row to metrics.csv, in which NaN (an absent class) is an empty field, and one to times.csv.

        `counts`: the confusion matrix `[K,K]` (rows true) of each stage that was scored, a row each in counts.csv.
        """
        epoch = numbers["epoch"]
        pairs = [f"{true} as {predicted}" for true in class_names for predicted in class_names]
        counted = [
            {"epoch": epoch, "stage": stage} | dict(zip(pairs, matrix.ravel().tolist(), strict=True))
            for stage, matrix in (counts or {}).items()
        ]
        for path, new in ((self.metrics_file, [numbers]), (self.times_file, [times]), (self.counts_file, counted)):
            rows = [row for row in _rows(path) if int(row["epoch"]) < epoch]
            self._write_rows(path, [*rows, *({k: "" if v != v else str(v) for k, v in row.items()} for row in new)])

    def metrics(self) -> list[dict[str, float]]:
        """The rows of metrics.csv, an empty field as NaN, with scores that are newer than the run from counts.csv."""
        return [{k: float(v or "nan") for k, v in row.items()} for row in self._metrics()]

    def _metrics(self) -> list[dict[str, str]]:
        rows = _rows(self.metrics_file)
        counted = {(row["epoch"], row["stage"]): row for row in _rows(self.counts_file)}
        for (epoch, stage), counts in counted.items():
            names = [text[: (len(text) - 4) // 2] for text in counts if _is_diagonal(text)]
            for row in (r for r in rows if r["epoch"] == epoch):
                if any(f"{stage}/{key}" not in row for score in SCORES for key in keys(score, names)):
                    matrix = np.array(list(counts.values())[2:], np.int64).reshape(len(names), len(names))
                    known = {f"{stage}/{k}": "" if v != v else str(v) for k, v in scores(matrix, names).items()}
                    row |= {k: v for k, v in known.items() if k not in row}
        return rows

    def times(self) -> list[dict[str, float]]:
        """The rows of times.csv: seconds and images of each epoch's training."""
        return [{k: float(v) for k, v in row.items()} for row in _rows(self.times_file)]

    def best(self, epochs: int) -> dict[str, float]:
        """Epoch and validation mIoU of the best of the first `epochs`; the earliest of equals."""
        rows = [row for row in self.metrics() if row["epoch"] <= epochs]
        row = max(rows, key=lambda r: r["val/miou"], default={"epoch": 0, "val/miou": float("-inf")})
        return {"epoch": int(row["epoch"]), "miou": row["val/miou"]}

    @staticmethod
    def _write_rows(path: Path, rows: list[dict[str, str]]) -> None:
        if not rows:
            return path.unlink(missing_ok=True)
        out = io.StringIO()
        fields = dict.fromkeys(name for row in rows for name in row)  # score_train may differ between two runs
        writer = csv.DictWriter(out, list(fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return write_whole(path, out.getvalue())

    def write_results(self, results: Mapping[str, Any]) -> None:
        """The last file of a run: it is there if and only if the run ended."""
        write_whole(self.results_file, json.dumps(without_nan(results), indent=2, allow_nan=False))

    def results(self) -> dict[str, Any]:
        """What results.json says; of a run that has not ended, only `status` and `reason`."""
        if self.results_file.exists():
            return json.loads(self.results_file.read_text())
        epochs = f"{len(_rows(self.metrics_file))} epochs are finished"
        if not self._held():
            return {"status": INTERRUPTED, "reason": f"it was killed: {epochs}"}
        return {"status": RUNNING, "reason": f"{epochs}, trained by {self._holder_file.read_text()}"}

    def _held(self) -> bool:
        if self._lock.is_locked or not self._holder_file.exists():
            return self._lock.is_locked
        try:
            with FileLock(self.folder / ".lock", blocking=False):
                return False
        except Timeout:
            return True

    @property
    def finished(self) -> str:
        """When it was finished, in ISO's form and UTC; empty of a run that is not."""
        if not self.results_file.exists():
            return ""
        known = self.environment().get("finished") if self.environment_file.exists() else None
        written = datetime.fromtimestamp(self.results_file.stat().st_mtime, UTC)
        return str(known or written.isoformat())

    def scores(self) -> dict[str, float | None]:
        """Validation scores of a finished run by name; those that are newer than the run from validation.csv."""
        results = self.results()
        own = flattened(results.get("val") or {})
        names = list(results.get("val", {}).get("iou", {}))
        if all(key in own for score in SCORES if not score.reference for key in keys(score, names)):
            return own
        try:
            kept = self.records.validation()
        except RecordError:
            kept = None
        found = scores(kept.confusion.sum(0), names) if kept and kept.confusion.shape[1] == len(names) else {}
        derived = {key: found.get(key) for score in SCORES if not score.reference for key in keys(score, names)}
        return own | {k: None if v != v else v for k, v in derived.items() if k not in own}

    @property
    def done(self) -> bool:
        """Whether it is finished and has a score."""
        return self.results_file.exists() and self.results()["status"] == DONE


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as f:
        return list(csv.DictReader(f))


def _is_diagonal(text: str) -> bool:
    name = text[: (len(text) - 4) // 2]
    return text == f"{name} as {name}"


def runs_of(study: Path) -> Iterator[Run]:
    """Every run folder of a study."""
    return (Run(path.parent) for path in sorted(study.glob("*/config.yaml")))
