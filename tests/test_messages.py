"""One line for what ends a command: a full disk, a worker of the data loader, an output that nobody reads."""

import errno
import os
import re
from pathlib import Path

import pytest
import yaml

from seglab.config import compose
from seglab.config.messages import full_disk, reason
from seglab.config.schema import PARTS, Config, plain
from seglab.run.folder import runs_of
from tests.conftest import ROOT


def test_the_defaults_of_the_schema_are_those_of_the_file() -> None:
    file = yaml.safe_load((ROOT / "conf" / "train.yaml").read_text())
    groups = {next(iter(entry)) for entry in file.pop("defaults") if isinstance(entry, dict)}
    del file["hydra"]
    fields = Config.model_fields
    assert fields.keys() - file.keys() == (groups & set(PARTS)) | {"names"}
    for name in fields.keys() & file.keys() - set(PARTS):
        assert plain(getattr(Config(), name)) == file[name], name


def test_a_training_checks_its_config_once(train, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    for name in ("check", "check_trainer"):
        original = getattr(compose, name)
        monkeypatch.setattr(compose, name, lambda config, n=name, f=original: (checked.append(n), f(config))[1])
    assert train("epochs=1")[0] == ""
    assert checked == ["check_trainer", "check"]


def test_a_full_disk_names_the_path_and_what_is_free(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert re.fullmatch(rf"{tmp_path}/a/b: the disk is full, [\d.]+ MB are free; .*", full_disk(full, tmp_path / "a/b"))
    named = OSError(errno.ENOSPC, "full", "/tmp/from", None, str(tmp_path / "to"))
    assert (full_disk(named, tmp_path) or "").startswith(f"{tmp_path}/to: the disk is full")
    wrapped = RuntimeError("no checkpoint")
    wrapped.__cause__ = full
    assert reason(wrapped, tmp_path).startswith(f"{tmp_path}: the disk is full")
    assert (full_disk(full) or "").startswith("the disk is full")
    assert full_disk(OSError(errno.EACCES, "no"), tmp_path) is None and full_disk(None) is None


def test_a_disk_that_is_full_for_every_file_is_one_line(train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from seglab.run.folder import Run

    def full(*_, **__) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("write_results", "add_epoch"):
        monkeypatch.setattr(Run, name, full)
    said, output = train("epochs=1")
    (run,) = runs_of(tmp_path / "default")
    assert said.startswith(f"failed: {run.folder}: the disk is full, ") and "\n" not in said
    monkeypatch.setattr(Run, "start", full)
    said, output = train("epochs=1", "study=other")
    assert "the disk is full" in said and "Traceback" not in output + said


def test_the_reason_of_a_failure_in_a_worker_is_its_cause(train, monkeypatch: pytest.MonkeyPatch) -> None:
    from seglab.data.module import Tiles

    def broken(self, key):
        raise ValueError("the file is gone\nand more of it")

    monkeypatch.setattr(Tiles, "__getitem__", broken)
    message, _ = train("epochs=1", "data.num_workers=1")
    assert message == "failed: ValueError: the file is gone (in a worker of the data loader)"


def test_reasons_by_hand(tmp_path: Path) -> None:
    caught = "Caught KeyError in worker 0.\nOriginal Traceback (most recent call last):\n  File \"x\"\nKeyError: 'a'\n"
    assert reason(RuntimeError(caught), tmp_path) == "KeyError: 'a' (in a worker of the data loader)"
    killed = RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")
    killed.__cause__ = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
    assert "is killed by signal: Killed" in reason(killed, tmp_path)
    assert reason(ValueError("first\nsecond"), tmp_path) == "ValueError: first"
