"""Every file of a run folder, spoilt in many ways: a reader gives data or one line, a command ends as documented.

`SEGLAB_FUZZ=20000` runs so many examples of the readers, drawn anew each time, instead of a fixed few.
"""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seglab.report.cells import read_cells
from seglab.report.page import page
from seglab.report.settings import ceiling
from seglab.report.study import read_tables
from seglab.report.tables import grid_csv, grid_markdown
from seglab.run import checkpoints
from seglab.run.folder import Run
from tests.foreign import Foreign, files, foreign  # noqa: F401 (a fixture)

MANY = int(os.environ.get("SEGLAB_FUZZ", "0"))
quietly = settings(deadline=None, database=None, print_blob=True, suppress_health_check=list(HealthCheck))
readers = settings(quietly, max_examples=MANY or 300, derandomize=not MANY)
commands = settings(quietly, max_examples=15, derandomize=True)

ODD = [None, True, 0, -1, 1e308, -1e308, 5e-324, 2**70, "", "x", "\x1b[2J", "\u202e", "../../x", "${oc.env:HOME}",
       [], {}, [[[]]], {"_target_": "os.system"}, "nan", ".inf", "done", "🙂" * 100]  # fmt: skip
FIELDS = [
    "",
    "x",
    "nan",
    "inf",
    "-1",
    "1e308",
    "1e-320",
    "9" * 30,
    "0.5",
    '"',
    "\x00",
    "\r",
    "../../x",
    "\x1b[2J",
    "٣",
    "1_0",
]
BYTES = [
    b"\x00",
    b"\xff",
    b"\n",
    b",",
    b'"',
    b"{",
    b"[",
    b": ",
    b"&a ",
    b"*a",
    b"!!int ",
    b"- ",
    b"9" * 400,
    b"[" * 2000,
]


def spoil_bytes(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, lost, doubled, or put in."""
    out = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[at:]
        elif kind == 2:
            del out[at : at + rng.randint(1, 50)]
        elif kind == 3:
            out[at:at] = out[at : at + rng.randint(1, 200)]
        else:
            out[at:at] = rng.choice(BYTES)
    return bytes(out)


def spoil_tree(value: Any, rng: random.Random) -> Any:
    """One value of lists and mappings replaced, lost or renamed."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return rng.choice(ODD)
    if isinstance(value, list):
        at = rng.randrange(len(value))
        return [*value[:at], spoil_tree(value[at], rng), *value[at + 1 :]]
    key = rng.choice(list(value))
    kind = rng.random()
    if kind < 0.1:
        return {k: v for k, v in value.items() if k != key}
    if kind < 0.2:
        return {("x" if k == key else k): v for k, v in value.items()}
    return value | {key: spoil_tree(value[key], rng)}


def spoil_table(content: bytes, rng: random.Random) -> bytes:
    """One field, row or column of a table replaced, lost or doubled."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    row = rng.randrange(len(rows))
    at = rng.randrange(len(rows[row]))
    kind = rng.randrange(6)
    if kind < 3:
        rows[row][at] = rng.choice(FIELDS)
    elif kind == 3:
        rows.insert(row, rows[rng.randrange(len(rows))])
    elif kind == 4:
        del rows[row]
    else:
        rows = [line[:at] + line[at + 1 :] for line in rows]
    return "\n".join(map(",".join, rows)).encode()


def spoilt(path: Path, content: bytes, rng: random.Random) -> bytes:
    """The content of a file as somebody else might have written it."""
    try:
        if rng.random() < 0.6 and path.suffix == ".json":
            return json.dumps(spoil_tree(json.loads(content), rng)).encode()
        if rng.random() < 0.6 and path.suffix == ".yaml":
            return yaml.safe_dump(spoil_tree(yaml.safe_load(content), rng)).encode()
        if rng.random() < 0.6 and path.suffix == ".csv":
            return spoil_table(content, rng)
    except (TypeError, yaml.YAMLError):
        pass  # what JSON or YAML can't hold
    return spoil_bytes(content, rng)


class Spoiling:
    """A run folder of which one or two files at a time are spoilt, and made whole again."""

    def __init__(self, place: Foreign):
        self.place, self.folder = place, place.run.folder
        names = [path.relative_to(self.folder) for path in files(self.folder) if "events" not in path.name]
        self.names = sorted(name for name in names if name.suffix not in (".log", ".md", ".lock"))
        self.whole = {name: (self.folder / name).read_bytes() for name in self.names}
        self.changed: list[Path] = []

    def __call__(self, seed: int) -> list[Path]:
        for name in self.changed:
            (self.folder / name).write_bytes(self.whole[name])
        rng = random.Random(seed)
        some = rng.choices(self.names, [1 if n.parent.name in ("maps", "pictures") else 8 for n in self.names], k=2)
        self.changed = some[: rng.randint(1, 2)]
        for name in self.changed:
            path = self.folder / name
            path.unlink()  # last.ckpt and best.ckpt are one file
            path.write_bytes(spoilt(name, self.whole[name], rng))
        return self.changed


@pytest.fixture
def spoil(foreign: Foreign, study: Path) -> Spoiling:  # noqa: F811
    """The folder stands beside a healthy cell of the same study."""
    (other,) = study.glob("unet-cross_entropy-e1-*")
    shutil.copytree(other, foreign.study / other.name)
    (foreign.study / "audit").mkdir()
    found = {"miou": 0.5, "iou": {"water": None, "building": 0.5}, "agreement": 0.9, "pixels": 10}
    (foreign.study / "audit" / "ceiling.json").write_text(json.dumps(found))
    return Spoiling(foreign)


def refused(read: Callable[[], object]) -> None:
    """Calls a reader, which may refuse in one line."""
    try:
        read()
    except (ValueError, OSError) as e:
        assert str(e), repr(e)


def test_readers_give_data_or_one_line(spoil: Spoiling) -> None:
    study, run = spoil.place.study, Run(spoil.folder)
    agreed = study / "audit" / "ceiling.json"
    whole = agreed.read_bytes()

    @readers
    @given(st.integers(0, 2**63))
    def try_one(seed: int) -> None:
        some = spoil(seed)
        agreed.write_bytes(spoilt(agreed, whole, random.Random(seed)))
        found = read_cells(study)
        assert len(found.cells) + len(found.unreadable) == 2 and any("cross" in c.loss for c in found.cells)
        assert "\x1b" not in grid_markdown(found) and grid_csv(found).encode()
        tables = read_tables(found)
        assert tables and all("\n" not in line for line in found.unreadable.values())
        if seed % 10 == 0:
            assert page(study, found, tables, None, None).encode()
        for read in (run.times, run.profile, run.records.probabilities, run.command, lambda: ceiling(study, None)):
            refused(read)
        for path in (run.last_checkpoint, run.best_checkpoint):
            if path.relative_to(run.folder) in some:
                checkpoints.read(path, run)

    try_one()


def test_commands_end_as_documented(spoil: Spoiling) -> None:
    @commands
    @given(st.integers(0, 2**63))
    def try_one(seed: int) -> None:
        spoil(seed)
        for name in spoil.place.commands():
            spoil.place.call(name)

    try_one()
