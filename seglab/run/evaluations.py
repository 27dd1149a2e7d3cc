"""The files of `seglab evaluate`: scores of a finished run on a split, with their one writer and their one reader."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from seglab.machine.files import without_nan, write_whole
from seglab.run.reading import RecordError, json_object
from seglab.run.records import Validation, read_counts
from seglab.run.shapes import Evaluation
from seglab.scores import flattened, nested

LAST = "last"
ORIGINAL = "original"
COUNTS = "counts"
BOUNDARY_F = "boundary_f_"


class Evaluations:
    """The folder evaluation/ of a run, or another that the user names (`within` itself)."""

    def __init__(self, folder: Path, within: Path | None = None):
        self.folder = folder
        self.within = within or folder

    def file(self, split: str, checkpoint: str = LAST, content: str = "", original: bool = False) -> Path:
        """`<split>.json`; of the best epoch, of labels of their own size, and of other data, with another name."""
        parts = [split, checkpoint * (checkpoint != LAST), ORIGINAL * original, content[:8]]
        return self.folder / f"{'_'.join(filter(None, parts))}.json"

    def read(self, path: Path) -> dict[str, Any] | None:
        """The content of such a file; None where there is none. Raises RecordError."""
        return json_object(path, self.within, Evaluation) if path.exists() or path.is_symlink() else None

    def write(
        self, path: Path, content: Mapping[str, Any], tables: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> list[Path]:
        """Writes the file, and each table beside it as `<split>_<name>.csv`; their paths.

        Raises RecordError where a link of the run folder leads elsewhere.
        """
        if not self.folder.resolve().is_relative_to(self.within.resolve()):
            raise RecordError(f"{self.folder}: a link that leads out of the run folder; accepted is also --out FOLDER")
        self.folder.mkdir(parents=True, exist_ok=True)
        written = [path.with_name(f"{path.stem}_{name}.csv") for name in tables]
        for table, rows in zip(written, tables.values(), strict=True):
            write_whole(table, _csv(rows))
        write_whole(path, json.dumps(content, indent=2, allow_nan=False))
        return [path, *written]

    def looks(self, split: str, weights: str, data: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """The files that tell of a scoring of these weights on this split of these data. Raises RecordError."""
        for checkpoint, content, original in product(("last", "best"), ("", data), (False, True)):
            path = self.file(split, checkpoint, content, original)
            found = self.read(path)
            if found and (found["split"], found["weights"], found["data"]) == (split, weights, data):
                yield path, found

    def counts(self, split: str, data: str, original: bool = False) -> Validation | None:
        """The counts of each image of such data after the last epoch; None where they were not scored.

        `data`: the content, or its beginning; empty for the run's own data. Raises RecordError.
        """
        own = self.file(split, original=original)
        others = sorted(self.folder.glob(f"{own.stem}_{data[:8]}*.json")) if data else []
        read = {path: self.read(path) for path in (own, *others)}
        found = {p: e for p, e in read.items() if e and e["checkpoint"] == LAST and e["data"].startswith(data)}
        if data and len({e["data"] for e in found.values()}) > 1:
            raise RecordError(f"{self.folder}: {', '.join(p.name for p in found)} are all of content {data}...")
        path = next(iter(found), None)
        return read_counts(path.with_name(f"{path.stem}_{COUNTS}.csv"), self.within) if path else None

    def test(self, identity: str, data: str) -> dict[str, Any] | None:
        """The evaluation of the test split of a run of this identity and these data, after its last epoch.

        None where there is none. Raises RecordError.
        """
        found = self.read(self.file("test"))
        of = (found["split"], found["identity"], found["data"], found["checkpoint"]) if found else ()
        return found if of == ("test", identity, data, LAST) else None


def scored_as(numbers: Mapping[str, float], classes: Sequence[str]) -> dict[str, Any]:
    """Scores by key as the file holds them: `scores` as results.json, and each boundary F with its classes."""
    means = [key for key in numbers if key.startswith(BOUNDARY_F) and "/" not in key]
    of_boundaries = {m: {"mean": numbers[m], "classes": {c: numbers[f"{m}/{c}"] for c in classes}} for m in means}
    return without_nan({"scores": nested(numbers, classes), "boundary_f": of_boundaries})


def flat(content: Mapping[str, Any]) -> dict[str, float | None]:
    """All scores of an evaluation by key: `iou/<class>`, and `boundary_f_1px` with `boundary_f_1px/<class>`."""
    out = flattened(content["scores"])
    for name, value in content["boundary_f"].items():
        out |= {name: value["mean"]} | {f"{name}/{k}": v for k, v in value["classes"].items()}
    return out


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None or v != v else v for k, v in row.items()} for row in rows)
    return out.getvalue()
