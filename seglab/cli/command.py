"""A command: a function of parsed arguments, its help, and how it tells what it found."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seglab.pages.text import printable

FAILED, FAULTY = 1, 3
"""Exit codes: it could not be done; it was done and found faults."""


@dataclass(frozen=True)
class Command:
    """`call(arguments)` does it and returns an exit code, None for 0; `arguments` are those of `add_argument`."""

    call: Callable[[argparse.Namespace], int | None]
    help: str
    example: str
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def tell(text: str, **options: Any) -> None:
    """Prints a text in which names and reasons may come from anybody."""
    print(printable(text, keep="\n\t"), **options)


def factor(text: str) -> float:
    """A number above 0, of a command line."""
    if not 0 < float(text) < float("inf"):
        raise ValueError(text)
    return float(text)


def whole(text: str) -> int:
    """A whole number from 1, of a command line."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def check_folder(path: Path | None, option: str = "--out") -> None:
    """Raises ValueError where files stand in the place of a folder of a command line, or of one above it."""
    there = next((part for part in (path, *path.parents) if part.exists()), None) if path else None
    if there and not there.is_dir():
        of = "" if there == path else f"{there} "
        raise ValueError(f"{option} {path}: {of}is a file, accepted is a folder")


CHECKPOINT = {"default": "last", "choices": ["last", "best"], "help": "the run's last epoch or its best"}

TRUST = {
    **{"action": "append", "default": [], "metavar": "PACKAGE"},
    "help": "also make models and readers of this package that a run folder names: its code then runs",
}
