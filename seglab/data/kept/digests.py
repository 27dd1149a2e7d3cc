"""Digests of files that were read before, remembered in the cache folder by all that `stat` tells of a file."""

import hashlib
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from seglab.data.problems import file_name, some

FILE = "digests.sqlite"
YOUNG = 2_000_000_000
"""Nanoseconds after its last change in which a file is not remembered: a second change in them may keep its times."""

TOGETHER = 16
"""Files that a thread reads in a row: handing over each by itself costs as much as reading a small one."""

WAIT = 30.0
"""Seconds that one process waits for another that writes."""

TABLE = "CREATE TABLE IF NOT EXISTS digests (path BLOB PRIMARY KEY, stamp TEXT, digest TEXT, seal TEXT) WITHOUT ROWID"
UNUSABLE = ("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_ERROR", "SQLITE_CONSTRAINT_NOTNULL")
"""Errors of a file that is damaged, or another program's: it is replaced."""

log = logging.getLogger(__name__)


class Stamp(NamedTuple):
    """All that changes with the content of a file. `cp -p` and `rsync -t` keep `mtime_ns`, but not `ctime_ns`."""

    size: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Stamp":
        """The stamp that `stat` tells."""
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino)

    @property
    def settled(self) -> bool:
        """False of a file that changed just now, or in the future of this machine's clock."""
        return time.time_ns() - max(self.mtime_ns, self.ctime_ns) >= YOUNG


class Digest(NamedTuple):
    """The sha256 of a file that had this stamp; `new` where it was read now and may be remembered."""

    stamp: Stamp
    sha256: str
    new: bool


class Digests:
    """The sha256 of files, read where `folder` does not remember it for their stamp, and with `verify` always.

    Several processes may use one folder. What is damaged there, or not ours, is made again.
    """

    def __init__(self, folder: Path, verify: bool = False):
        self.folder = folder
        self.verify = verify
        self._stamps: dict[Path, Stamp] = {}

    def of(self, paths: Iterable[Path]) -> tuple[dict[Path, str], list[str]]:
        """The sha256 of each file that can be read, and a problem for each that can't."""
        files = list(dict.fromkeys(paths))
        known = self._remembered(files)
        found: dict[Path, Digest | str] = {} if self.verify else {p: d for p, d in known.items() if _unchanged(p, d)}
        unknown = [path for path in files if path not in found]
        parts = [unknown[start : start + TOGETHER] for start in range(0, len(unknown), TOGETHER)]
        with (
            ThreadPoolExecutor(os.cpu_count()) as pool,
            tqdm(total=len(unknown), desc="reading", disable=not sys.stderr.isatty(), leave=False) as bar,
        ):
            for part, digests in zip(parts, pool.map(_read_or_problem, parts), strict=True):
                found |= zip(part, digests, strict=True)
                bar.update(len(part))
        read = {path: got for path, got in found.items() if isinstance(got, Digest)}
        self._keep(read, known)
        problems = [got for got in found.values() if isinstance(got, str)]
        if self.verify:
            log.info("data.verify=true: %d files were read again", len(read))
        self._stamps = {path: got.stamp for path, got in read.items()}
        return {path: got.sha256 for path, got in read.items()}, problems

    def check(self) -> None:
        """Raises ValueError if a file is no longer the one whose digest was asked for: pixels would be of another."""
        changed = [file_name(path) for path, stamp in self._stamps.items() if not _has(path, stamp)]
        if changed:
            raise ValueError(f"{some(changed)}: changed while the data were read; accepted are files that stay")

    def _keep(self, digests: Mapping[Path, Digest], known: Mapping[Path, Digest]) -> None:
        """Remembers what was read now, and forgets, with a warning, what was remembered wrongly."""
        pairs = [(path, known[path], got) for path, got in digests.items() if path in known]
        wrong = [path for path, old, got in pairs if old.stamp == got.stamp and old.sha256 != got.sha256]
        if wrong:
            names = some([file_name(path) for path in wrong])
            log.warning("%s: %d remembered digests were wrong and are mended: %s", self._path, len(wrong), names)
        rows = [_row(path, got) for path, got in digests.items() if got.new]
        if not rows and not wrong:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._write(rows, wrong)
            except sqlite3.DatabaseError as e:
                if e.sqlite_errorname not in UNUSABLE:
                    raise
                log.warning("%s is damaged (%s): made again", self._path, e)
                for name in (f"{FILE}-journal", FILE):
                    (self.folder / name).unlink(missing_ok=True)
                self._write(rows, wrong)
        except (OSError, sqlite3.Error) as e:
            log.warning("%s: can't be written (%s), so the next start reads all files again", self._path, e)

    def _write(self, rows: Iterable[tuple[bytes, str, str, str]], wrong: Iterable[Path]) -> None:
        with closing(sqlite3.connect(self._path, timeout=WAIT)) as base, base:
            base.execute(TABLE)
            base.executemany("DELETE FROM digests WHERE path = ?", [(_key(path),) for path in wrong])
            base.executemany("INSERT OR REPLACE INTO digests (path, stamp, digest, seal) VALUES (?, ?, ?, ?)", rows)

    def _remembered(self, paths: Collection[Path]) -> dict[Path, Digest]:
        """Digests of these files that the folder holds; none of those whose row is damaged."""
        found: dict[Path, Digest] = {}
        if not self._path.is_file():
            return found
        try:
            with closing(sqlite3.connect(self._path, timeout=WAIT)) as base:
                for path in paths:
                    key = _key(path)
                    rows = base.execute("SELECT stamp, digest, seal FROM digests WHERE path = ?", (key,))
                    stamp, sha256, seal = rows.fetchone() or ("", "", "")
                    if seal and seal == _seal(key, stamp, sha256):
                        found[path] = Digest(Stamp(*map(int, stamp.split())), sha256, False)
        except (sqlite3.Error, TypeError, ValueError):
            return {}  # writing finds the same, and says it
        return found

    @property
    def _path(self) -> Path:
        return self.folder / FILE


def _unchanged(path: Path, before: Digest) -> bool:
    """True of a file that has the stamp of a digest, and not since just now."""
    return _has(path, before.stamp) and before.stamp.settled


def _has(path: Path, stamp: Stamp) -> bool:
    try:
        return stamp == Stamp.of(path.stat())
    except OSError:
        return False  # which reading says


def _read_or_problem(paths: Iterable[Path]) -> list[Digest | str]:
    out: list[Digest | str] = []
    for path in paths:
        try:
            out.append(read(path))
        except OSError as e:
            out.append(f"{file_name(path)}: not readable ({e.strerror})")
    return out


def read(path: Path) -> Digest:
    """The digest of a file as it is now. Raises OSError."""
    with path.open("rb") as file:
        stamp = Stamp.of(os.fstat(file.fileno()))
        settled = stamp.settled
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Digest(stamp, sha256, settled and stamp == Stamp.of(os.fstat(file.fileno())))


def _row(path: Path, digest: Digest) -> tuple[bytes, str, str, str]:
    stamp = " ".join(map(str, digest.stamp))
    return _key(path), stamp, digest.sha256, _seal(_key(path), stamp, digest.sha256)


def _key(path: Path) -> bytes:
    return os.fsencode(os.path.abspath(path))


def _seal(key: bytes, stamp: str, sha256: str) -> str:
    """A checksum of a row: a damaged one is no digest."""
    return hashlib.sha256(key + f"\0{stamp}\0{sha256}".encode()).hexdigest()[:16]
