"""A run folder from elsewhere, the commands that read it, and a watch over what they run, open and write."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from PIL import Image

from seglab import cli
from seglab.run.folder import Run

RUNS = {"os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pty.spawn"}
LOOKS = {"os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink"}
WRITES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate"}


class Watch:
    """Commands that ran, and paths that were opened or written."""

    def __init__(self) -> None:
        self.ran: list[object] = []
        self.touched: set[str] = set()
        self.written: set[str] = set()


_watch: Watch | None = None


def _hook(event: str, arguments: tuple) -> None:
    if _watch is None:
        return
    if event in RUNS:
        _watch.ran.append((event, arguments))
    elif event == "open" and isinstance(arguments[0], str | bytes):
        path = os.fsdecode(arguments[0])
        _watch.touched.add(path)
        if (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) and "__pycache__" not in path:
            _watch.written.add(path)
    elif event in LOOKS | WRITES and arguments and isinstance(arguments[0], str | bytes):
        path = os.fsdecode(arguments[0])
        _watch.touched.add(path)
        if event in WRITES and "__pycache__" not in path:
            _watch.written.add(path)


sys.addaudithook(_hook)


@contextmanager
def watching() -> Iterator[Watch]:
    """Record of what this process does meanwhile."""
    global _watch
    _watch = watch = Watch()
    try:
        yield watch
    finally:
        _watch = None


class Ended(NamedTuple):
    code: object
    out: str
    err: str


class Foreign:
    """A study of one run folder from elsewhere, which may write to `out`, to the pages of `study`, and to the cache."""

    def __init__(self, study: Path, run: Run, images: Path, place: Path, capsys: pytest.CaptureFixture[str]):
        self.study, self.run, self.images, self.place, self.capsys = study, run, images, place, capsys
        self.image = place / "scene.png"
        self.out = place / "out"

    def rewrite(self, change: Mapping[str, Any]) -> None:
        """Sets keys, joined by dots, of config.yaml; a key without dots that is a whole node replaces it."""
        config = yaml.safe_load(self.run.config_file.read_text())
        for key, value in change.items():
            node = config
            *above, last = key.split(".")
            for name in above:
                node = node[name]
            node[last] = value
        self.run.config_file.write_text(yaml.safe_dump(config))

    def commands(self) -> dict[str, list[str]]:
        """The commands that read run folders."""
        run = str(self.run.folder)
        return {
            "grid": ["grid", str(self.study)],
            "report": ["report", str(self.study)],
            "predict": ["predict", run, str(self.image), "--out", str(self.out)],
            "evaluate": ["evaluate", run, "--data", str(self.images), "--out", str(self.out)],
            "audit": ["audit", f"data.root={self.images}", "--run", run, "--out", str(self.out)],
        }

    def call(self, name: str, *more: str) -> tuple[Ended, Watch]:
        """One of them, in this process, and what it did. Asserts that it ended as documented and wrote as asked."""
        before = {path: path.lstat().st_mtime_ns for path in files(self.place)}
        self.capsys.readouterr()
        with watching() as watch, pytest.raises(SystemExit) as end:
            cli.main([*self.commands()[name], *more])
        ended = Ended(end.value.code, *self.capsys.readouterr())
        assert ended.code in cli.EXIT_CODES, ended
        assert "Traceback" not in ended.out + ended.err
        assert (ended.err.count("\n") == 1 and ended.err.startswith("seglab: ")) if ended.code == 1 else True, ended.err
        assert not watch.ran
        pages = {self.study / page for page in ("report.html", "grid.csv", "grid.md")}
        after = {path: path.lstat().st_mtime_ns for path in files(self.place) if self.out not in path.parents}
        before = {path: time for path, time in before.items() if self.out not in path.parents}
        assert {p for p in before.keys() | after.keys() if before.get(p) != after.get(p)} <= pages
        names = tuple(f".{page.name}." for page in pages)
        places = (str(self.out), str(self.images.parent / "cache"), os.devnull)
        own = {p for p in watch.written if p.startswith(places) or Path(p).name.startswith(names)}
        assert watch.written - own - {str(self.study)} == set(), "something else was written"
        return ended, watch


def files(place: Path) -> list[Path]:
    """All that lies below a folder, links not followed."""
    return [Path(folder) / name for folder, _, names in os.walk(place) for name in names]


@pytest.fixture
def foreign(study: Path, images: Path, tmp_path: Path, monkeypatch, capsys) -> Foreign:
    """A copy of a finished cell; the cache is that of its training."""
    monkeypatch.setenv("SEGLAB_CACHE", str(images.parent / "cache"))
    (one,) = study.glob("unet-dice-e1-*")
    shutil.copytree(one, tmp_path / "place" / "study" / one.name)
    place = tmp_path / "place"
    Image.open(images / "data" / "8.png").save(place / "scene.png")
    return Foreign(place / "study", Run(place / "study" / one.name), images, place, capsys)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def nothing_here() -> bool:
    return not list(Path.cwd().iterdir())
