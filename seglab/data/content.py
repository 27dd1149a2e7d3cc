"""The content of a data set as one hash."""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from seglab.data.folder import Pair
from seglab.data.problems import DataError, file_name


def content_hash(pairs: Sequence[Pair]) -> str:
    """Hash of names, scenes and the bytes of every file: the same wherever and whenever it is computed.

    Raises DataError with every file that can't be read.
    """
    problems: list[str] = []

    @cache  # one file may hold the labels of all
    def digest(path: Path) -> str:
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as e:
            problems.append(f"{file_name(path)}: not readable ({e.strerror})")
            return ""

    def row(pair: Pair) -> list[str | None]:
        files = [pair.image, pair.label, *pair.beside]
        return [pair.name, pair.scene, *map(digest, files)]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(row, pairs))
    if problems:
        raise DataError(pairs[0].image.parent.parent, sorted(problems))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
