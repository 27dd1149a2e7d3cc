"""Whole files: writing that leaves no half file, and values that JSON can hold."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


def remove_if_empty(folder: Path) -> None:
    """Removes a folder in which nothing is."""
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """A new file that takes the name `path` when it is complete: no reader, and no crash, ever meets half of it.

    `durable`: it is on the disk before. What stands at the names is replaced, never written into: it may be a link.
    """
    making = path.with_name(f".{path.name[:60]}.{os.getpid()}")  # a name may be as long as names can be
    making.unlink(missing_ok=True)
    try:
        with making.open("xb") as f:
            yield f
            f.flush()
            if durable:
                os.fsync(f.fileno())
        making.replace(path)
    finally:
        making.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Replaces a file by a text, whole or not at all."""
    with replacing(path) as f:
        f.write(text.encode())


def without_nan(value: Any) -> Any:
    """Copy of a value with None for each NaN, because JSON has no NaN."""
    if isinstance(value, Mapping):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and value != value else value
