"""PNG files written row by row, however large: a picture is never in memory whole."""

import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from seglab.machine.files import replacing

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLORS = {1: 0, 3: 2, 4: 6}
"""PNG's number for grey, RGB and RGBA, by the number of channels."""


def write_png(
    path: Path, size: tuple[int, int], channels: int, rows: Iterator[np.ndarray], texts: Mapping[str, str]
) -> None:
    """Writes rows `uint8 [h,W,C]` (or `[h,W]`) as a PNG of this height and width, whole or not at all."""
    height, width = size
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, durable=False) as file:  # Ctrl-C leaves no half of a map
        file.write(SIGNATURE)
        _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, COLORS[channels], 0, 0, 0))
        for key, text in texts.items():
            _chunk(file, b"tEXt", key.encode("latin-1") + b"\0" + text.encode("latin-1", "replace"))
        packer = zlib.compressobj(6)
        for part in rows:
            flat = part.reshape(len(part), width * channels)
            filtered = np.concatenate([np.zeros((len(part), 1), np.uint8), flat], 1)  # filter 0: none
            packed = packer.compress(filtered.data)
            if packed:
                _chunk(file, b"IDAT", packed)
        _chunk(file, b"IDAT", packer.flush())
        _chunk(file, b"IEND", b"")


def _chunk(file: BinaryIO, kind: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + kind + content)
    file.write(struct.pack(">I", zlib.crc32(kind + content)))
