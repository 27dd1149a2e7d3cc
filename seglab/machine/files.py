"""Whole files: writing that leaves no half file, and values that JSON can hold."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def remove_if_empty(folder: Path) -> None:
    """Removes a folder in which nothing is."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def write_whole(path: Path, text: str) -> None:
    """Replaces a file in one step: neither a reader nor a crash finds half of it."""
    making = path.with_name(f".{path.name}.{os.getpid()}")
    with making.open("w") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    making.replace(path)


def without_nan(value: Any) -> Any:
    """Copy of a value with None for each NaN, because JSON has no NaN."""
    if isinstance(value, Mapping):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and value != value else value
