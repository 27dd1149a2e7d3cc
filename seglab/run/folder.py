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
from seglab.run.evaluations import Evaluations
from seglab.run.metrics import dictionaries, floats, with_newer_scores
from seglab.run.reading import RecordError, is_locked, json_object, text, yaml_mapping
from seglab.run.records import Records
from seglab.run.shapes import DIVERGED, DONE, FAILED, INTERRUPTED, RUNNING, Environment, Results
from seglab.scores import SCORES, flattened, keys, scores

__all__ = ["DIVERGED", "DONE", "FAILED", "INTERRUPTED", "RUNNING", "Run", "RunHeld", "runs_of"]

LAST_SECOND = 253402300799
"""Of the year 9999: files may claim to be of later ones."""


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
        self.evaluations = Evaluations(self.folder / "evaluation", self.folder)
        self._lock = FileLock(self.folder / ".lock")
        self._holder_file = self.folder / ".holder"

    def hold(self) -> None:
        """Makes this process the only one that writes here, until `release` or its end. Raises RunHeld."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=1)  # longer than a reader takes to see whether it is held
        except Timeout:
            raise RunHeld(f"{self.folder} is being trained by {self._holder()}") from None
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
            self._write_rows(path, [row for row in self._rows(path) if int(row["epoch"]) <= epochs])
        write_whole(self.config_file, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
        self.write_environment(environment)

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Keeps where and on what it is trained."""
        write_whole(self.environment_file, json.dumps(environment, indent=2))

    def take_over(self, other: "Run", epochs: int) -> None:
        """The rows and the log of the first `epochs` epochs of another run of the same identity."""
        self.folder.mkdir(parents=True, exist_ok=True)
        found = {self.metrics_file: other._metrics(), self.times_file: other._rows(other.times_file)}
        for path, rows in {**found, self.counts_file: other._rows(other.counts_file)}.items():
            self._write_rows(path, [row for row in rows if int(row["epoch"]) <= epochs])
        with self.log_file.open("a") as f:  # appended: whoever trains this run writes into the same file already
            f.write(other.log_file.read_text(errors="replace") if other.log_file.is_file() else "")

    def holds(self, epochs: int) -> bool:
        """True if every table has its rows of all the first `epochs` epochs. Raises RecordError or OSError."""
        tables = (self._metrics(), self._rows(self.times_file), self._rows(self.counts_file))
        return all({int(row["epoch"]) for row in rows} >= set(range(1, epochs + 1)) for rows in tables)

    def write_command(self, command: str) -> None:
        """Keeps what was typed."""
        write_whole(self.command_file, command + "\n")

    def command(self) -> str | None:
        """The command that trained it; None where that is not known."""
        return text(self.command_file, self.folder).strip() if self.command_file.exists() else None

    def write_profile(self, rows: Sequence[Mapping[str, str | float]], text: str) -> None:
        """Where the time went, as a table of phases and in words."""
        self._write_rows(self.profile_table, [{k: str(v) for k, v in row.items()} for row in rows])
        write_whole(self.profile_text, text)

    def profile(self) -> list[dict[str, str]]:
        """The rows of profile.csv; none of a run that was not profiled."""
        return self._rows(self.profile_table)

    def config(self) -> dict[str, Any]:
        """The resolved config, and under `names` which file of each group was chosen. Raises RecordError."""
        if not self.config_file.exists():
            raise FileNotFoundError(f"{self.folder}: no config.yaml; accepted is a run folder outputs/<study>/<run>")
        return yaml_mapping(self.config_file, self.folder)

    def environment(self) -> dict[str, Any]:
        """The content of environment.json. Raises RecordError."""
        return json_object(self.environment_file, self.folder, Environment)

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
            rows = [row for row in self._rows(path) if int(row["epoch"]) < epoch]
            self._write_rows(path, [*rows, *({k: "" if v != v else str(v) for k, v in row.items()} for row in new)])

    def metrics(self) -> list[dict[str, float]]:
        """The rows of metrics.csv, an empty field as NaN, with scores that are newer than the run from counts.csv.

        Raises RecordError.
        """
        return floats(self.metrics_file, self._metrics())

    def _metrics(self) -> list[dict[str, str]]:
        return with_newer_scores(self._rows(self.metrics_file), self._rows(self.counts_file), self.counts_file)

    def _rows(self, path: Path) -> list[dict[str, str]]:
        return dictionaries(path, self.folder)

    def times(self) -> list[dict[str, float]]:
        """The rows of times.csv: seconds and images of each epoch's training."""
        return floats(self.times_file, self._rows(self.times_file))

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
        """The content of results.json; of a run that has not ended, only `status` and `reason`. Raises RecordError."""
        if self.results_file.exists():
            found = json_object(self.results_file, self.folder, Results)
            return found if found["status"] == DONE else {"reason": "no reason is kept"} | found
        epochs = f"{len(self._rows(self.metrics_file))} epochs are finished"
        if not self._held():
            return {"status": INTERRUPTED, "reason": f"it was killed: {epochs}"}
        return {"status": RUNNING, "reason": f"{epochs}, trained by {self._holder()}"}

    def _held(self) -> bool:
        return self._lock.is_locked or (self._holder_file.exists() and is_locked(self.folder / ".lock"))

    def _holder(self) -> str:
        return text(self._holder_file, self.folder)[:200] if self._holder_file.exists() else "another process"

    @property
    def finished(self) -> str:
        """When it was finished, in ISO's form and UTC; empty of a run that is not."""
        if not self.results_file.exists():
            return ""
        known = self.environment().get("finished") if self.environment_file.exists() else None
        seconds = min(max(self.results_file.stat().st_mtime, 0), LAST_SECOND)
        return str(known or datetime.fromtimestamp(seconds, UTC).isoformat())

    def scores(self) -> dict[str, float | None]:
        """Validation scores of a finished run by name; those that are newer than the run from validation.csv."""
        results = self.results()
        own = flattened(results.get("val") or {})
        names = [key.removeprefix("iou/") for key in own if key.startswith("iou/")]
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
        """True if it is finished and has a score."""
        return self.results_file.exists() and self.results()["status"] == DONE


def runs_of(study: Path) -> Iterator[Run]:
    """Every run folder of a study: every folder that holds a file by which a run is known."""
    known = ("config.yaml", "results.json", "metrics.csv")
    return (Run(folder) for folder in sorted(study.glob("*/")) if any((folder / name).exists() for name in known))
