"""The content of a data set as one hash."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from seglab.data.folder import Pair
from seglab.data.kept.digests import Digests
from seglab.data.problems import DataError


def content_hash(pairs: Sequence[Pair], digests: Digests) -> str:
    """Hash of names, scenes and the bytes of every file: the same wherever and whenever it is computed.

    Raises DataError with every file that can't be read.
    """
    files: list[list[Path]] = [[pair.image, pair.label, *pair.beside] for pair in pairs]
    found, problems = digests.of(path for of_pair in files for path in of_pair)
    if problems:
        raise DataError(pairs[0].image.parent.parent, sorted(problems))
    rows = [[p.name, p.scene, *(found[path] for path in paths)] for p, paths in zip(pairs, files, strict=True)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
