"""The files in which a finished cell keeps its predictions for reports, each with its one writer and its one reader."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import numpy as np

from seglab.machine.files import replacing, write_whole
from seglab.run.reading import RecordError, inside, table
from seglab.scores import PROBABILITY_BINS

MOST_PIXELS = 1e12
"""Of one class in one image, or of one bin."""

__all__ = ["RecordError", "Records", "Validation", "evenly", "mapped"]


@dataclass(frozen=True)
class Validation:
    """Each validation image's name, scene (empty where unknown), and counts `int64 [N,K,K]`, rows true."""

    names: list[str]
    scenes: list[str]
    confusion: np.ndarray


def evenly(total: int, count: int) -> list[int]:
    """`count` of so many positions, all if there are fewer, evenly spread: the same in every run."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()


def mapped(names: Sequence[str], maps: int | None, pictures: int) -> list[str]:
    """Those validation images, of all in their order, whose maps a cell of such a config keeps."""
    if maps is None or len(names) <= maps:
        return list(names)
    return [names[i] for i in sorted({*evenly(len(names), maps), *evenly(len(names), pictures)})]


class Records:
    """maps/, validation.csv, calibration.csv and probabilities.csv of one run folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.maps = folder / "maps"
        self.validation_file = folder / "validation.csv"
        self.calibration_file = folder / "calibration.csv"
        self.probabilities_file = folder / "probabilities.csv"

    def write_map(self, name: str, prediction: np.ndarray) -> None:
        """Saves the class ids `uint8 [H,W]` of one validation image as an 8-bit PNG."""
        from PIL import Image

        self.maps.mkdir(parents=True, exist_ok=True)
        with replacing(self._map_file(name), durable=False) as f:
            Image.fromarray(prediction).save(f, "PNG")

    def map(self, name: str) -> np.ndarray | None:
        """The class ids `uint8 [H,W]` of one validation image; None where there is no map."""
        from PIL import Image

        path = self._map_file(name)
        try:
            with Image.open(inside(path, self.folder), formats=["PNG"]) as picture:
                if picture.mode != "L":
                    raise RecordError(f"{path}: a picture of mode {picture.mode}; accepted is L, 8-bit class ids")
                return np.asarray(picture)
        except FileNotFoundError:
            return None
        except RecordError:
            raise
        except Exception as e:  # a broken picture makes Pillow raise what it likes
            raise RecordError(f"{path}: not a readable map ({type(e).__name__})") from e

    def _map_file(self, name: str) -> Path:
        if Path(name).name != name or "\0" in name or len(name.encode()) > 250:
            raise RecordError(f"{self.validation_file}: {name!r} is no name of an image")
        return self.maps / f"{name}.png"

    def write_validation(self, classes: Sequence[str], rows: Iterable[tuple[str, str, Sequence[int]]]) -> None:
        """One row an image: name, scene and counts."""
        _write(self.validation_file, counts_head(classes), ([name, scene, *n] for name, scene, n in rows))

    def validation(self) -> Validation | None:
        """The content of validation.csv; None where there is none. Raises RecordError."""
        found = read_counts(self.validation_file, self.folder) if self.validation_file.exists() else None
        for name in found.names if found else ():
            self._map_file(name)
        return found

    def write_calibration(self, bins: np.ndarray) -> None:
        """`[bins,3]`: pixels whose highest probability is in a bin, the right ones, and the sum of that probability."""
        rows = ([i / len(bins), (i + 1) / len(bins), int(n), int(r), round(c, 6)] for i, (n, r, c) in enumerate(bins))
        _write(self.calibration_file, ["from", "to", "pixels", "right", "confidence"], rows)

    def calibration(self) -> np.ndarray | None:
        """`float64 [bins,3]`: pixels, right ones, sum of confidence; None without the file. Raises RecordError."""
        if (found := self._table(self.calibration_file)) is None:
            return None
        bins = _numbers(self.calibration_file, found[1], 5)[:, 2:]
        if (bins[:, 1:] > 1.001 * bins[:, :1] + 1e-3).any():  # the sum of confidence is rounded
            raise RecordError(f"{self.calibration_file}: more right pixels, or confidence, than pixels")
        return bins

    def write_probabilities(self, classes: Sequence[str], histogram: np.ndarray) -> None:
        """`int [K,bins,2]`: pixels of other classes, and of this one, whose probability of this one is in a bin."""
        bins = histogram.shape[1]
        rows = ([c, i / bins, *map(int, histogram[k, i])] for k, c in enumerate(classes) for i in range(bins))
        _write(self.probabilities_file, ["class", "from", "negative", "positive"], rows)

    def probabilities(self) -> np.ndarray | None:
        """`int64 [K,bins,2]` as it was written; None where there is no file. Raises RecordError."""
        if (found := self._table(self.probabilities_file)) is None:
            return None
        counts = _numbers(self.probabilities_file, [row[2:] for row in found[1]], 2).astype(np.int64)
        if len(counts) % PROBABILITY_BINS:
            raise RecordError(f"{self.probabilities_file}: {len(counts)} rows; expected {PROBABILITY_BINS} a class")
        return counts.reshape(-1, PROBABILITY_BINS, 2)

    def _table(self, path: Path) -> tuple[list[str], list[list[str]]] | None:
        return table(path, self.folder) if path.exists() else None


def counts_head(classes: Sequence[str]) -> list[str]:
    """Columns of a table of counts: name, scene, and for each pair of classes `<true> as <predicted>`."""
    return ["name", "scene", *(f"{true} as {predicted}" for true in classes for predicted in classes)]


def read_counts(path: Path, folder: Path) -> Validation:
    """The content of a table of counts in a folder. Raises RecordError."""
    head, rows = table(path, folder)
    k = isqrt(max(0, len(head) - 2))
    if head[:2] != ["name", "scene"] or not k or len(head) != 2 + k * k:
        raise RecordError(f"{path}: columns {head[:3]}...; expected name, scene and K x K counts")
    counts = _numbers(path, [row[2:] for row in rows], k * k).astype(np.int64)
    return Validation([r[0] for r in rows], [r[1] for r in rows], counts.reshape(-1, k, k))


def _write(path: Path, head: Sequence[str], rows: Iterable[Sequence]) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    write_whole(path, out.getvalue())


def _numbers(path: Path, rows: Sequence[Sequence[str]], columns: int) -> np.ndarray:
    """`float64 [rows,columns]`, finite and not negative."""
    try:
        counts = np.array(rows, np.float64).reshape(len(rows), columns)
    except ValueError as e:
        raise RecordError(f"{path}: {e}") from e
    if not (np.isfinite(counts) & (counts >= 0)).all():
        raise RecordError(f"{path}: a count is negative or not finite")
    if (counts > MOST_PIXELS).any() or counts.sum() > 2**60:
        raise RecordError(f"{path}: a count is larger than any picture")
    return counts
