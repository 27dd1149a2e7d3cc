"""Files of a folder by their name, and everything in it that is no usable image."""

import logging
import os
import re
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path

from seglab.data.problems import file_name, some

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
RASTERS = (*SUFFIXES, ".jp2")
"""The suffixes of what GDAL reads."""

log = logging.getLogger(__name__)


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key that puts `2` before `10`, and names that differ only in zeros in a fixed order."""
    parts = [part for part in re.split(r"([0-9]+)", name) if part]
    return [(int(part), "") if re.fullmatch("[0-9]+", part) else (-1, part) for part in parts], name


def composed(name: str) -> str:
    """A name in the form NFC: macOS writes `ü` as two characters, and either way it is one name."""
    return unicodedata.normalize("NFC", name)


def images_by_name(
    folder: Path, problems: list[str], suffixes: Collection[str] = SUFFIXES, beside: Collection[str] = ()
) -> dict[str, Path | None]:
    """The files of a folder with these suffixes by name; None where `problems` says why the file can't be used.

    Others are passed over, with a warning unless they have a suffix of `beside`.
    """
    try:
        with os.scandir(folder) as there:
            entries = sorted(there, key=lambda entry: entry.name)
    except OSError as e:
        missing = isinstance(e, FileNotFoundError | NotADirectoryError)
        problems.append(f"{folder.name}/: {'no such folder' if missing else f'not readable ({e.strerror})'}")
        return {}
    found: dict[str, Path | None] = {}
    others: list[str] = []
    before = len(problems)
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = folder / entry.name
        name = composed(path.stem)
        regular = entry.is_file(follow_symlinks=False)  # which the folder tells without a look at the file
        if not regular and path.is_dir():
            _folder(path, problems, others)
        elif path.suffix.lower() not in suffixes:
            others += [file_name(path)] if path.suffix.lower() not in beside else []
        elif why := _unusable(path, regular):
            problems.append(f"{file_name(path)}: {why}")
            found.setdefault(name, None)
        elif first := found.get(name):
            problems.append(f"{file_name(path)}: {first.name} has the same name")
        else:
            found[name] = path
    if others:
        kinds = ", ".join(suffixes)
        log.warning("%s in %s are no images (%s) and passed over: %s", len(others), folder, kinds, some(others))
    if not found and len(problems) == before:
        problems.append(f"{folder.name}/: no images in it ({', '.join(suffixes)})")
    return found


def _folder(path: Path, problems: list[str], others: list[str]) -> None:
    """A folder beside images: forgotten images in it are a problem, anything else is passed over."""
    if next(_images_below(path), None):
        count = sum(1 for _ in _images_below(path))
        many = f"a sub-folder with {count} image{'s' * (count > 1)}"
        problems.append(f"{file_name(path)}/: {many}, which nothing would read: accepted are files side by side")
    elif path.suffix.lower() in SUFFIXES:
        problems.append(f"{file_name(path)}/: a folder, accepted is an image file")
    else:
        others.append(f"{file_name(path)}/")


def _images_below(folder: Path) -> Iterator[str]:
    for _, _, names in os.walk(folder):  # follows no links, so that a loop has an end
        yield from (n for n in names if n.lower().endswith(SUFFIXES) and not n.startswith("."))


def _unusable(path: Path, regular: bool) -> str | None:
    if not regular and not path.is_file():
        return "neither a file nor a link to one" if path.exists() else "a link that leads nowhere"
    if not os.access(path, os.R_OK):
        return "not readable (Permission denied)"
    try:
        path.name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8: accepted is another name"
    return None
