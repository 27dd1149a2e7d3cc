"""The record of what a root of crops was cut from, and how: the same command goes on, another one is refused."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seglab.data.files.beside import beside
from seglab.machine.files import remove_if_empty, write_whole

RECORD = "crop.json"


def begin(out: Path, record: Mapping[str, Any], folders: Sequence[str]) -> None:
    """Makes the folders of a new root, or finds the root that the same command began. Raises ValueError.

    `record` holds `settings`, and the files of each of the `scenes`.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out}: is a file, accepted is a new or an empty folder")
    there = sorted(path.name for path in out.iterdir()) if out.exists() else []
    if RECORD not in there:
        if there:
            accepted = "accepted is a new or an empty folder, or one that the same command began"
            raise ValueError(f"--out {out}: holds other files ({', '.join(there[:3])}), {accepted}")
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / RECORD, json.dumps(record, indent=1))
    else:
        before = _read(out / RECORD)
        if differs := _differs(before, json.loads(json.dumps(record))):
            raise ValueError(f"--out {out}: was cut in another way ({differs}); accepted is another folder")
    for folder in folders:
        if (out / folder).is_symlink():
            raise ValueError(f"{out / folder}: a link, through which no crop is written; accepted is a folder")
        (out / folder).mkdir(exist_ok=True)


def give_up(out: Path, folders: Sequence[str]) -> None:
    """Removes the record and the folders of a root in which no crop is, so that another command may begin there."""
    for folder in folders:
        remove_if_empty(out / folder)
    if not any((out / folder).exists() for folder in folders):
        (out / RECORD).unlink()
        remove_if_empty(out)


def facts(path: Path) -> dict[str, str]:
    """Name and hash of a file, and of those that belong to it."""
    found = hashlib.sha256()
    for part in (path, *beside([path])[path]):
        with part.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return {"file": path.name, "sha256": found.hexdigest()}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        return {"settings": dict(found["settings"]), "scenes": dict(found["scenes"])}
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(f"{path}: not a record of seglab crop; accepted is another --out") from e


def _differs(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Words on all that is not as it was; none if nothing is."""
    before, now = there["settings"], here["settings"]
    found = [
        f"{name} {before.get(name)} there, {value} here" for name, value in now.items() if before.get(name) != value
    ]
    names = [*here["scenes"], *(name for name in there["scenes"] if name not in here["scenes"])]
    other = [name for name in names if there["scenes"].get(name) != here["scenes"].get(name)]
    return "; ".join(found + ([f"other files for {', '.join(other[:3])}"] if other else []))
