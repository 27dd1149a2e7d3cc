"""The run folder: every file name, its one writer, its one reader."""

import csv
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

DONE, FAILED = "done", "failed"


class Run:
    """`outputs/<study>/<model>-<loss>-e<epochs>-s<seed>-<short hash>/`: all there is to know about one cell."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self.config_file = self.folder / "config.yaml"
        self.metrics_file = self.folder / "metrics.csv"
        self.log_file = self.folder / "train.log"
        self.environment_file = self.folder / "environment.json"
        self.results_file = self.folder / "results.json"
        self.last_checkpoint = self.folder / "checkpoints" / "last.ckpt"
        self.best_checkpoint = self.folder / "checkpoints" / "best.ckpt"
        self.pictures = self.folder / "pictures"

    def start(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """An empty folder that says what will run; what an unfinished run left in it is removed."""
        for folder in (self.last_checkpoint.parent, self.pictures):
            folder.mkdir(parents=True, exist_ok=True)
        leftovers = [self.metrics_file, self.results_file, *self.folder.glob("events.out.tfevents.*")]
        for path in (*leftovers, *self.last_checkpoint.parent.iterdir(), *self.pictures.iterdir()):
            path.unlink(missing_ok=True)
        write_whole(self.config_file, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
        write_whole(self.environment_file, json.dumps(environment, indent=2))

    def config(self) -> dict[str, Any]:
        """The resolved config, and under `names` which file of each group was chosen."""
        return yaml.safe_load(self.config_file.read_text())

    def add_epoch(self, row: Mapping[str, float | int]) -> None:
        """Appends one row to metrics.csv; NaN (an absent class) is an empty field."""
        new = not self.metrics_file.exists()
        with self.metrics_file.open("a", newline="") as f:
            writer = csv.DictWriter(f, list(row))
            if new:
                writer.writeheader()
            writer.writerow({k: "" if v != v else v for k, v in row.items()})

    def metrics(self) -> list[dict[str, float]]:
        """The rows of metrics.csv, an empty field as NaN."""
        if not self.metrics_file.exists():
            return []
        with self.metrics_file.open(newline="") as f:
            return [{k: float(v or "nan") for k, v in row.items()} for row in csv.DictReader(f)]

    def write_results(self, results: Mapping[str, Any]) -> None:
        """The last file of a run: it is there if and only if the run ended."""
        write_whole(self.results_file, json.dumps(without_nan(results), indent=2, allow_nan=False))

    def results(self) -> dict[str, Any] | None:
        """What results.json says, or None while the run has not ended."""
        return json.loads(self.results_file.read_text()) if self.results_file.exists() else None


def runs_of(study: Path) -> Iterator[Run]:
    """Every run folder of a study."""
    return (Run(path.parent) for path in sorted(study.glob("*/config.yaml")))


def write_whole(path: Path, text: str) -> None:
    """Replaces a file so that no reader, and no crash, ever meets half of it."""
    making = path.with_name(f".{path.name}.{os.getpid()}")
    with making.open("w") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    making.replace(path)


def without_nan(value: Any) -> Any:
    """The same value with None for each NaN: JSON has no NaN."""
    if isinstance(value, Mapping):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and value != value else value
