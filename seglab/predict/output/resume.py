"""Finished rows of a map, kept beside it until it is whole: a map that was interrupted goes on after them."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from filelock import FileLock, Timeout

from seglab.machine.files import write_whole


class Rows(Protocol):
    """Rows `uint8 [h,W,...]` of a picture, of which a part can be read."""

    def read(self, start: int, stop: int) -> np.ndarray: ...


class Part(Protocol):
    """The rows of some pictures of one map: `finished` of them are there."""

    finished: int
    pictures: Mapping[str, Rows]

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        """Adds the next rows of each picture."""
        ...


class InMemory:
    """A part that is made at once, and has nothing to resume."""

    def __init__(self) -> None:
        self.finished = 0
        self.pictures: dict[str, _Held] = {}

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        self.pictures = {name: _Held(values) for name, values in rows.items()}
        self.finished = len(next(iter(rows.values())))


class _Held:
    def __init__(self, values: np.ndarray):
        self._values = values

    def read(self, start: int, stop: int) -> np.ndarray:
        return self._values[start:stop]


class OnDisk:
    """A folder of files of raw rows `uint8`, and a file that says how many of `height` are on the disk."""

    def __init__(self, folder: Path, shapes: Mapping[str, tuple[int, ...]], height: int):
        self._height = height
        self._state = folder / "state.json"
        self.pictures = {name: _File(folder / f"{name}.raw", shape) for name, shape in shapes.items()}
        self.finished = self._on_disk()

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        for name, picture in self.pictures.items():
            picture.write(self.finished, rows[name])
        self.finished += len(next(iter(rows.values())))
        write_whole(self._state, json.dumps({"rows": self.finished}))

    def _on_disk(self) -> int:
        try:
            rows = json.loads(self._state.read_text())["rows"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        possible = type(rows) is int and 0 <= rows <= self._height
        whole = possible and all(picture.holds(rows) for picture in self.pictures.values())
        return rows if whole else 0


class _File:
    def __init__(self, path: Path, shape: tuple[int, ...]):
        self._path = path
        self._shape = shape
        self._row = int(np.prod(shape))

    def write(self, start: int, rows: np.ndarray) -> None:
        with self._path.open("r+b" if self._path.exists() else "xb") as file:
            file.seek(start * self._row)
            file.write(np.ascontiguousarray(rows).data)
            file.flush()
            os.fsync(file.fileno())

    def read(self, start: int, stop: int) -> np.ndarray:
        count = (stop - start) * self._row
        values = np.fromfile(self._path, np.uint8, count, offset=start * self._row)
        return values.reshape(stop - start, *self._shape)

    def holds(self, rows: int) -> bool:
        return self._path.exists() and self._path.stat().st_size >= rows * self._row


@contextmanager
def kept(
    out: Path, stem: str, digest: str, shapes: Mapping[str, tuple[int, ...]], height: int
) -> Iterator[tuple[OnDisk, Path]]:
    """The part of a map of this digest, and its folder. It stays where an error ends this, and goes with the end.

    `shapes`: of a row of each picture, which has `height` of them. Raises ValueError while another process makes the
    same map, and where a link could lead what is written to another file.
    """
    folder = out / f".{stem[:60]}.{digest}.part"
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ValueError(f"{folder}: not a folder of finished rows; accepted is none of this name")
    folder.mkdir(parents=True, exist_ok=True)
    if other := next((path for path in folder.iterdir() if path.is_symlink() or not path.is_file()), None):
        raise ValueError(f"{other}: no file that seglab predict wrote; accepted is an --out without {folder.name}")
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"{folder}: another process is making this map") from None
    with lock:
        yield OnDisk(folder, shapes, height), folder
        shutil.rmtree(folder)
    _remove_others(out, stem)


def _remove_others(out: Path, stem: str) -> None:
    """Removes what unfinished maps of other options or images of this name left, unless a process is at it."""
    for path in out.glob(".*.part"):
        own = re.fullmatch(rf"\.{re.escape(stem[:60])}\.[0-9a-f]{{16}}\.part", path.name)
        if own and path.is_dir() and not any(one.is_symlink() for one in (path, path / "lock")):
            with suppress(Timeout), FileLock(path / "lock", timeout=0):
                shutil.rmtree(path)


def digest_of(facts: Any, *files: Path) -> str:
    """16 letters that stand for all that a map's pixels depend on."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
