"""Every kind of label file: read right to the last value, or refused with one line that says why."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab.data.files.pixels import read_label
from seglab.data.folder import FolderReader, Pair
from tests.tiff import COLORS, HALF, IDS, RGB, in_three, palette_picture, write_tiff

CLASSES = {"ground": "#c8c8c8", "roof": "#d1495b", "tree": "#3f8f4f", "water": "#2e6fb7"}


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_label_values_of_every_type(tmp_path: Path, kind: str, big: bool, compressed: bool) -> None:
    values = IDS.astype(kind)
    if kind[0] != "u":
        values[0, 0] = -1
    write_tiff(tmp_path / "1.tif", values, big=big, compressed=compressed)
    assert (read_label(tmp_path / "1.tif") == values).all()


def test_labels_of_three_bands_in_planes(tmp_path: Path) -> None:
    write_tiff(tmp_path / "1.tif", in_three(IDS), planes=True, compressed=True)
    assert (read_label(tmp_path / "1.tif") == in_three(IDS)).all()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_labels_of_few_bits_keep_their_ids(tmp_path: Path, bits: int) -> None:
    ids = IDS % 2**bits
    write_tiff(tmp_path / "1.tif", ids, bits=bits)
    assert (read_label(tmp_path / "1.tif") == ids).all()
    write_png(tmp_path / "1.png", ids, bits)
    assert (read_label(tmp_path / "1.png") == ids).all()


def write_png(path: Path, ids: np.ndarray, bits: int) -> None:
    """A grey PNG of few bits, which Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    each = np.unpackbits(ids[..., None], axis=-1)[..., -bits:]
    rows = np.packbits(each.reshape(len(ids), -1), axis=1)
    data = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())
    head = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


@pytest.mark.parametrize("mode", ["LA", "RGB", "RGBA"])
def test_labels_of_several_bands(tmp_path: Path, mode: str) -> None:
    bands = {"LA": [IDS, np.full_like(IDS, 255)], "RGB": [IDS] * 3, "RGBA": [*[IDS] * 3, np.full_like(IDS, 255)]}[mode]
    Image.fromarray(np.dstack(bands), mode=None).save(tmp_path / "1.png")
    reader = FolderReader()
    Image.fromarray(RGB).save(tmp_path / "image.png")
    pair = Pair("1", tmp_path / "image.png", tmp_path / "1.png")
    assert (reader.load(pair, CLASSES)[1] == IDS).all()
    if "A" in mode:
        bands[-1] = HALF
        Image.fromarray(np.dstack(bands)).save(tmp_path / "1.png")
        with pytest.raises(ValueError, match=r"a label with transparent pixels .alpha 0.: accepted is alpha 255"):
            reader.load(pair, CLASSES)


@pytest.mark.parametrize(
    ("array", "how", "said"),
    [
        (in_three(IDS).astype(np.uint16), {}, "a label of 3 bands, 16 bits, unsigned: accepted are class ids in one"),
        (np.dstack([IDS, IDS]), {}, "a label of 2 bands"),
        (COLORS, {}, "a label of 5 bands"),
        (IDS.astype(np.float16), {}, "a label of 1 band, 16 bits, float"),
        (IDS.astype(np.complex64), {}, "a label of 1 band, 64 bits, complex"),
        (IDS, {"photometric": 0}, "a label in which 0 is white"),
    ],
)
def test_labels_that_are_in_doubt_are_refused(tmp_path: Path, array: np.ndarray, how: dict, said: str) -> None:
    write_tiff(tmp_path / "1.tif", array, **how)
    with pytest.raises(ValueError) as e:
        read_label(tmp_path / "1.tif")
    assert said in str(e.value) and "\n" not in str(e.value)


def test_lossy_labels_are_refused(tmp_path: Path) -> None:
    for suffix in ("jpg", "webp"):
        Image.fromarray(IDS).save(tmp_path / f"1.{suffix}")
        with pytest.raises(ValueError, match=r"lossy compression .*: accepted are PNG, BMP and TIFF"):
            read_label(tmp_path / f"1.{suffix}")


def test_palette_labels_are_read_by_index_unless_their_greys_are_ids_too(tmp_path: Path) -> None:
    path = tmp_path / "1.png"
    for colors in (
        [(9, 0, 0), (200, 0, 0), (0, 99, 0), (1, 1, 1)],
        [(i, i, i) for i in range(4)],
        [(85 * i, 85 * i, 85 * i) for i in range(4)],
    ):
        palette_picture(IDS, colors).save(path)
        assert (read_label(path, num_classes=4) == IDS).all()
    palette_picture(IDS, [(9, 0, 0), (200, 0, 0), (0, 99, 0), (1, 1, 1)]).save(path, transparency=0)
    assert (read_label(path, num_classes=4) == IDS).all()  # the colour table alone is transparent
    assert (read_label(path, colors=True)[IDS == 1] == (200, 0, 0)).all()
    palette_picture(IDS, [(i, i, i) for i in (3, 0, 1, 2)]).save(path)
    with pytest.raises(ValueError, match="palette index 0 shows grey 3, and both are class ids: accepted is a palette"):
        read_label(path, num_classes=4)
    assert (read_label(path, colors=True)[..., 0] == (IDS.astype(int) - 1) % 4).all()


def test_a_truncated_float_label_is_one_line(tmp_path: Path) -> None:
    write_tiff(tmp_path / "1.tif", np.zeros((50, 50)))
    path, whole = tmp_path / "1.tif", (tmp_path / "1.tif").read_bytes()
    # the directory lies at the end: all of the strip before it is moved behind the end of the file
    path.write_bytes(whole.replace((8).to_bytes(4, "little"), (len(whole) - 9).to_bytes(4, "little")))
    with pytest.raises(ValueError, match=r"1\.tif: "):
        read_label(path)
