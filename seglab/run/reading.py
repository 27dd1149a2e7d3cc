"""Files from anybody, read as plain data: none outside its folder, none too large, and one line for a wrong one."""

import csv
import io
import json
import math
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

import yaml
from pydantic import BaseModel, ValidationError

MOST_BYTES = 64 << 20
"""Size of a table."""

MOST_SETTINGS = 4 << 20
"""Size of a file of settings or facts."""

MOST_COLUMNS = 1 << 16
MOST_ROWS = 1 << 20
DEEPEST = 40
"""Levels of nested lists and mappings."""

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class RecordError(ValueError):
    """A file of a run folder is not what seglab writes."""


def inside(path: Path, folder: Path, most: int | None = None) -> Path:
    """The real path of a file. Raises RecordError for one that a link leads out of `folder`, or that is too large.

    Raises OSError for one that is not there.
    """
    try:
        real = path.resolve()
        outside = not real.is_relative_to(folder.resolve())
    except RuntimeError as e:  # a link to itself
        raise RecordError(f"{path}: a link that leads nowhere") from e
    if outside:
        raise RecordError(f"{path}: a link that leads out of the folder; it is not followed")
    found = real.stat()
    if not stat.S_ISREG(found.st_mode):
        raise RecordError(f"{path}: not a file")
    if most is not None and found.st_size > most:
        raise RecordError(f"{path}: {found.st_size} bytes; accepted are at most {most}")
    return real


def text(path: Path, folder: Path, most: int = MOST_SETTINGS) -> str:
    """The text of a file. Raises RecordError for one that is no text, is too large or lies elsewhere."""
    with inside(path, folder, most).open("rb") as f:
        content = f.read(most)
    try:
        return content.decode()
    except UnicodeDecodeError as e:
        raise RecordError(f"{path}: not a text in UTF-8 ({e.reason} at byte {e.start})") from e


def json_object(path: Path, folder: Path, shape: type[BaseModel], most: int = MOST_SETTINGS) -> dict[str, Any]:
    """The content of a JSON file, which has the fields of `shape`. Raises RecordError."""
    source = text(path, folder, most)
    try:
        found = json.loads(source, parse_constant=_refused, parse_float=_finite)
    except (ValueError, RecursionError) as e:
        raise RecordError(f"{path}: not readable JSON ({_first_line(e)})") from e
    if not isinstance(found, dict):
        raise RecordError(f"{path}: not an object of JSON")
    check_plain(path, found)
    try:
        shape.model_validate(found)
    except ValidationError as e:
        first = e.errors()[0]
        key = ".".join(map(str, first["loc"][:3]))
        raise RecordError(f"{path}: {key}={repr(first['input'])[:60]}: {first['msg'].lower()}") from None
    return found


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refused(digits[:20])


def yaml_mapping(path: Path, folder: Path) -> dict[str, Any]:
    """The content of a YAML file. Raises RecordError for tags, anchors, and what is no mapping of plain values."""
    source = text(path, folder)
    try:
        _check_events(path, source)
        found = yaml.load(source, LOADER)
    except RecordError:
        raise
    except Exception as e:  # the loader raises whatever Python says to a date or a number that is none
        raise RecordError(f"{path}: not a readable config ({_first_line(e)})") from e
    if not isinstance(found, dict):
        raise RecordError(f"{path}: not a readable config (it holds no keys)")
    check_plain(path, found)
    return found


def _check_events(path: Path, source: str) -> None:
    """Raises RecordError for what a config needs not have: a few anchors can stand for billions of values."""
    depth = 0
    for event in yaml.parse(source, LOADER):
        if getattr(event, "anchor", None) is not None:
            raise RecordError(f"{path}: not a readable config (it has anchors or aliases)")
        if getattr(event, "tag", None) is not None:
            raise RecordError(f"{path}: not a readable config (it has the tag {event.tag[:60]!r})")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise RecordError(f"{path}: not a readable config (nested more than {DEEPEST} deep)")


def check_plain(path: Path, value: Any, depth: int = 0) -> None:
    """Raises RecordError unless a value is made of lists, mappings, texts, numbers, truth values and null."""
    if depth > DEEPEST:
        raise RecordError(f"{path}: nested more than {DEEPEST} deep")
    if isinstance(value, dict | list):
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            check_plain(path, item, depth + 1)
    elif isinstance(value, str):
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise RecordError(f"{path}: a text that is none in Unicode")
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise RecordError(f"{path}: a number of more than 64 bits")
    elif value is not None and not isinstance(value, float):
        raise RecordError(f"{path}: a {type(value).__name__} where a text, a number or a list belongs")


def table(path: Path, folder: Path) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a CSV file, all of one length. Raises RecordError."""
    source = io.StringIO(text(path, folder, MOST_BYTES), newline="")
    rows: list[list[str]] = []
    try:
        for row in csv.reader(source):
            if row and (len(row) > MOST_COLUMNS or len(rows) > MOST_ROWS):
                raise RecordError(f"{path}: more than {MOST_COLUMNS} columns or {MOST_ROWS} rows")
            if row and rows and len(row) != len(rows[0]):
                raise RecordError(f"{path}: row {len(rows)} has {len(row)} fields; its header has {len(rows[0])}")
            rows += [row] if row else []
    except csv.Error as e:
        raise RecordError(f"{path}: not a table with a header ({e})") from e
    if not rows:
        raise RecordError(f"{path}: not a table with a header (it is empty)")
    if len(set(rows[0])) < len(rows[0]):
        raise RecordError(f"{path}: two columns have one name")
    return rows[0], rows[1:]


def is_locked(path: Path) -> bool:
    """True if a process holds this lock file. Taking the lock would tell it, too, but writes the file."""
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
