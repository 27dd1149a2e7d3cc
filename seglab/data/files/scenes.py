"""The table scenes.csv: from which scene each image was cut."""

import csv
import io
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from seglab.data.files.listing import SUFFIXES, composed
from seglab.data.problems import some

log = logging.getLogger(__name__)


def read_scenes(path: Path, names: Sequence[str], problems: list[str]) -> dict[str, str]:
    """The scene of each image of `names`, and a problem for each that has none; nothing at all without the file.

    Accepted are UTF-8, commas, semicolons or tabs, blank lines, spaces around values, and names with their suffix.
    """
    if not os.path.lexists(path):
        return {}
    try:
        rows = list(_rows(_text(path)))
    except (OSError, ValueError, csv.Error) as e:
        why = f"not readable ({e.strerror})" if isinstance(e, OSError) else e
        problems.append(f"{path.name}: {why}")
        return {}
    scenes: dict[str, str] = {}
    unknown: list[str] = []
    known = set(names)
    for line, name, scene in rows:
        image = _image(name, known)
        if not image:
            unknown.append(name.strip() or f"line {line}")
        elif scenes.setdefault(image, scene) != scene:
            problems.append(f"{path.name}: {image} has two scenes, {scenes[image]} and {scene} (line {line})")
    if unknown:
        log.warning("%s names %d images that have no pair of files here: %s", path, len(unknown), some(unknown))
    problems += [f"{path.name}: no scene for {name}" for name in names if not scenes.get(name)]
    return scenes


def _text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = raw[: e.start].count(b"\n") + 1
        raise ValueError(f"line {line} is not UTF-8: save it as UTF-8 (iconv -f latin1 -t utf-8)") from e


def _rows(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, name and scene of each row that is not blank. Raises ValueError for other columns."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    header: list[str] = []
    for row in lines:
        if not any(value.strip() for value in row):
            continue
        if not header:
            header = [value.strip().lower() for value in row]
            if [header.count(column) for column in ("name", "scene")] != [1, 1]:
                raise ValueError(f"columns {row}, expected name,scene")
            continue
        if len(row) > len(header):
            raise ValueError(f"line {lines.line_num} holds {len(row)} values, its header {len(header)}")
        row += [""] * (len(header) - len(row))
        yield lines.line_num, composed(row[header.index("name")]), composed(row[header.index("scene")].strip())
    if not header:
        raise ValueError("columns [], expected name,scene")


def _delimiter(text: str) -> str:
    header = next((line for line in text.splitlines() if line.strip()), "").lower()
    return next((d for d in ";\t" if {"name", "scene"} <= {value.strip(' "') for value in header.split(d)}), ",")


def _image(name: str, known: Collection[str]) -> str | None:
    """The image that a row means: its name as it stands, without spaces around it, or without its suffix."""
    bare = name.strip()
    stem = Path(bare).stem if bare.lower().endswith(SUFFIXES) else bare
    return next((n for n in (name, bare, stem) if n in known), None)
