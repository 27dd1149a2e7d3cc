"""Small pictures, and TIFF files that Pillow does not write: any type, bands, alpha, orientation, pages, byte order."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)
COLORS = RNG.integers(0, 256, (6, 8, 5)).astype(np.uint8)
RGB, GREY = COLORS[..., :3], COLORS[..., 0]
IDS = RNG.integers(0, 4, (6, 8)).astype(np.uint8)
HALF = np.tile(np.array([0, 255], np.uint8), (6, 4))

FORMATS = {"u": 1, "i": 2, "f": 3, "c": 6}


def write_tiff(path: Path, *pages: np.ndarray, big: bool = False, subfiles: Sequence[int] = (), **how) -> None:
    """Pages `[H,W]` or `[H,W,N]`, each in one strip, or one for each of its `planes`; `how` as in `_tags`."""
    order = ">" if big else "<"
    out = bytearray((b"MM\0*" if big else b"II*\0") + bytes(4))
    link = 4
    for k, array in enumerate(pages):
        strips = _strips(array.astype(array.dtype.newbyteorder(order)), **how)
        starts = []
        for strip in strips:
            starts.append(len(out))
            out += strip + bytes(len(strip) % 2)
        tags = _tags(array, **how) | {273: starts, 279: [len(strip) for strip in strips]}
        tags |= {254: [subfiles[k]]} if subfiles else {}
        entries = b""
        for tag, values in sorted(tags.items()):
            data = struct.pack(f"{order}{len(values)}I", *values)
            if len(values) > 1:
                data, where = struct.pack(f"{order}I", len(out)), data
                out += where
            entries += struct.pack(f"{order}HHI", tag, 4, len(values)) + data
        out[link : link + 4] = struct.pack(f"{order}I", len(out))
        out += struct.pack(f"{order}H", len(tags)) + entries
        link = len(out)
        out += bytes(4)
    path.write_bytes(bytes(out))


def _strips(
    array: np.ndarray, bits: int = 8, compressed: bool = False, planes: bool = False, **_: object
) -> list[bytes]:
    if bits < 8:
        each = np.unpackbits(array.astype(np.uint8)[..., None], axis=-1)[..., -bits:]
        return [np.packbits(each.reshape(len(array), -1), axis=1).tobytes()]
    parts = [part.tobytes() for part in (np.moveaxis(array, -1, 0) if planes else [array])]
    return [zlib.compress(part) for part in parts] if compressed else parts


def _tags(
    array: np.ndarray,
    bits: int | None = None,
    photometric: int | None = None,
    extra: Sequence[int] = (),
    orientation: int | None = None,
    compressed: bool = False,
    planes: bool = False,
) -> dict[int, list[int]]:
    h, w, bands = (*array.shape, 1)[:3]
    color = photometric if photometric is not None else (2 if bands >= 3 else 1)
    tags = {256: [w], 257: [h], 258: [bits or 8 * array.itemsize] * bands, 259: [8 if compressed else 1]}
    tags |= {262: [color], 277: [bands], 278: [h]}
    tags[339] = [FORMATS[array.dtype.kind]] * bands
    if planes:
        tags[284] = [2]
    if extra:
        tags[338] = list(extra)
    if orientation:
        tags[274] = [orientation]
    return tags


def in_three(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, -1)


def palette_picture(indices: np.ndarray, colors: list[tuple[int, int, int]]) -> Image.Image:
    picture = Image.fromarray(indices)
    picture.putpalette([v for color in colors for v in color])
    return picture
