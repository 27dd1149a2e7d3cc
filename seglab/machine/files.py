"""Files written whole."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_whole(path: Path, text: str) -> None:
    """Replaces a file so that no reader, and no crash, ever meets half of it."""
    making = path.with_name(f".{path.name}.{os.getpid()}")
    with making.open("w") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    making.replace(path)


def without_nan(value: Any) -> Any:
    """The same value with None for each NaN: JSON has no NaN."""
    if isinstance(value, Mapping):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and value != value else value
