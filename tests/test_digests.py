"""A file is read again only where something may have changed it, and a digest is never that of other bytes."""

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from seglab.data import DataError, FolderReader
from seglab.data.kept import digests
from seglab.data.kept.content import content_hash
from seglab.data.kept.digests import FILE, YOUNG, Digests
from tests.commands import FORKS
from tests.test_data import make

HOUR = 3600 * 10**9


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read from now on."""
    names: list[str] = []
    read = digests.read
    monkeypatch.setattr(digests, "read", lambda path: names.append(path.name) or read(path))
    return names


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Nanoseconds by which this machine's clock is ahead: an hour, so that no file is young."""
    ahead = [HOUR]
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + ahead[0])
    yield ahead


def files(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).write_text(f"content of {name}")
    return [folder / name for name in names]


def test_the_hash_of_content_is_what_it_was(tmp_path: Path) -> None:
    for sub in ("data", "label"):
        (tmp_path / sub).mkdir()
        files(tmp_path / sub, "1.png", "2.png")
    pairs, _ = FolderReader().pairs(tmp_path)
    # sha256 of [["1", null, sha256 of the image, sha256 of the label], ...] as JSON, computed by hand
    wanted = "bc5dae05002241439e55ba0a697be81b92c75888bb48ad95b3ff320b52973aaf"
    assert content_hash(pairs, Digests(tmp_path / "cache")) == wanted


def test_what_did_not_change_is_not_opened_again(tmp_path: Path, opened: list[str], clock: list[int]) -> None:
    paths = files(tmp_path, "a", "b")
    first = Digests(tmp_path / "cache").of(paths)
    assert sorted(opened) == ["a", "b"]
    assert Digests(tmp_path / "cache").of(paths) == first and len(opened) == 2
    assert Digests(tmp_path / "cache", verify=True).of(paths) == first and len(opened) == 4
    assert Digests(tmp_path / "elsewhere").of(paths) == first and len(opened) == 6


def test_a_young_file_and_one_of_the_future_are_read_again(tmp_path: Path, opened: list[str], clock: list[int]) -> None:
    paths = files(tmp_path, "a")
    clock[0] = YOUNG // 2
    for count in (1, 2):
        Digests(tmp_path / "cache").of(paths)
        assert len(opened) == count and not (tmp_path / "cache").exists()
    clock[0] = HOUR
    Digests(tmp_path / "cache").of(paths)
    clock[0] = -HOUR  # it was remembered before the clock was set back
    for count in (4, 5):
        Digests(tmp_path / "cache").of(paths)
        assert len(opened) == count


def test_other_bytes_of_the_same_size_and_time_are_noticed(tmp_path: Path, opened: list[str], clock: list[int]) -> None:
    (path,) = files(tmp_path, "a")
    before = path.stat()
    first, _ = Digests(tmp_path / "cache").of([path])
    path.write_text("CONTENT OF A")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size and path.stat().st_mtime_ns == before.st_mtime_ns
    second, _ = Digests(tmp_path / "cache").of([path])
    assert second != first and len(opened) == 2


def test_a_file_that_takes_the_place_of_another_is_noticed(tmp_path: Path, opened: list[str], clock: list[int]) -> None:
    path, other = files(tmp_path, "a", "b")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    first, _ = Digests(tmp_path / "cache").of([path])
    other.replace(path)
    second, _ = Digests(tmp_path / "cache").of([path])
    assert second != first and opened == ["a", "a"]


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, clock: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = files(tmp_path, "a")
    digest = digests.hashlib.file_digest

    def meanwhile(file, kind):
        found = digest(file, kind)
        path.write_text("longer than it was before")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(digests.hashlib, "file_digest", meanwhile)
        first, _ = Digests(tmp_path / "cache").of([path])
    assert Digests(tmp_path / "cache").of([path])[0] != first


def test_verify_mends_what_was_remembered_wrongly_and_says_so(
    tmp_path: Path, clock: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    paths = files(tmp_path, "a", "b")
    right = Digests(tmp_path / "cache").of(paths)
    wrong = "0" * 64
    with closing(sqlite3.connect(tmp_path / "cache" / FILE)) as base, base:
        key = os.fsencode(paths[0])
        (stamp,) = base.execute("SELECT stamp FROM digests WHERE path = ?", (key,)).fetchone()
        base.execute("UPDATE digests SET digest = ? WHERE path = ?", (wrong, key))
    assert Digests(tmp_path / "cache").of(paths) == right, "a damaged row is no digest"
    with closing(sqlite3.connect(tmp_path / "cache" / FILE)) as base, base:
        sealed = (wrong, digests._seal(key, stamp, wrong), key)
        base.execute("UPDATE digests SET digest = ?, seal = ? WHERE path = ?", sealed)
    assert Digests(tmp_path / "cache").of(paths)[0][paths[0]] == wrong
    assert not caplog.records
    assert Digests(tmp_path / "cache", verify=True).of(paths) == right
    assert f"1 remembered digests were wrong and are mended: {tmp_path.name}/a" in caplog.text
    assert Digests(tmp_path / "cache").of(paths) == right


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + 200 * b"x"])
def test_a_damaged_memory_is_a_slower_start(
    tmp_path: Path, opened: list[str], clock: list[int], content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    paths = files(tmp_path, "a")
    first = Digests(tmp_path / "cache").of(paths)
    (tmp_path / "cache" / FILE).write_bytes(content)
    assert Digests(tmp_path / "cache").of(paths) == first and len(opened) == 2
    assert ("is damaged" in caplog.text) is bool(content)
    assert Digests(tmp_path / "cache").of(paths) == first and len(opened) == 2


def test_a_memory_of_another_program_is_replaced(tmp_path: Path, opened: list[str], clock: list[int]) -> None:
    paths = files(tmp_path, "a")
    with closing(sqlite3.connect(tmp_path / FILE)) as base, base:
        base.execute("CREATE TABLE digests (something TEXT)")
    first = Digests(tmp_path).of(paths)
    assert Digests(tmp_path).of(paths) == first and opened == ["a"]


def test_a_folder_that_cannot_be_written_is_one_warning(
    tmp_path: Path, clock: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    paths = files(tmp_path, "a", "file")
    found, problems = Digests(tmp_path / "file").of(paths)
    assert len(found) == 2 and not problems
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "so the next start reads all files again" in record.getMessage()


def _remember(folder: Path, paths: list[Path], barrier) -> None:
    digests.YOUNG = 0  # of this process, which ends soon
    barrier.wait()
    for path in paths:
        Digests(folder).of([path])


def test_two_processes_remember_into_one_memory(tmp_path: Path, opened: list[str], clock: list[int]) -> None:
    paths = files(tmp_path, *(f"{i}" for i in range(20)))
    barrier = FORKS.Barrier(2)
    halves = (paths[:12], paths[8:])
    processes = [FORKS.Process(target=_remember, args=(tmp_path / "cache", half, barrier)) for half in halves]
    for p in processes:
        p.start()
    for p in processes:
        p.join(60)
    assert [p.exitcode for p in processes] == [0, 0]
    assert len(Digests(tmp_path / "cache").of(paths)[0]) == 20 and not opened


def test_files_that_cannot_be_read_are_named_together(root: Path, clock: list[int]) -> None:
    assert make(root).content
    pairs, _ = FolderReader().pairs(root)
    pairs[0].image.unlink()
    pairs[1].label.unlink()
    pairs[1].label.mkdir()
    with pytest.raises(DataError) as e:
        content_hash(pairs, Digests(root.parent / "cache"))
    assert e.value.problems == [
        "data/1.png: not readable (No such file or directory)",
        "label/2.png: not readable (Is a directory)",
    ]
