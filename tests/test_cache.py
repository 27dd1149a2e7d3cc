"""Every file is decoded once, read anew when it changes, and never half."""

import errno
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from seglab.data import DataError, FolderReader
from seglab.data.kept import cache
from seglab.data.kept.cache import CacheFull, PixelCache, cached, open_cache
from seglab.data.kept.content import content_hash
from seglab.data.kept.decoding import Decoding
from seglab.data.kept.digests import Digests
from tests.commands import FORKS
from tests.conftest import write_pair
from tests.test_data import CLASSES, make


def test_the_cache_holds_the_pixels_and_is_made_once(root: Path) -> None:
    reader = FolderReader()
    data = make(root)
    for i, pair in enumerate(data.pairs):
        for got, want in zip(data.cache[i], reader.load(pair, CLASSES), strict=True):
            assert np.array_equal(got, want)
    (folder,) = (p.parent for p in (root.parent / "cache").glob("*/pixels.bin"))
    before = (folder / "pixels.bin").stat().st_mtime_ns
    make(root).setup()
    assert (folder / "pixels.bin").stat().st_mtime_ns == before
    counts = np.stack([np.bincount(data.cache[i][1].ravel(), minlength=4) for i in range(10)])
    assert (data.cache.class_counts == counts).all()


def test_a_decoded_set_is_found_by_its_content_alone(root: Path) -> None:
    data = make(root, size=16)
    asked = (root.parent / "cache", data.content)
    how = Decoding(FolderReader(), CLASSES, (16, 16))
    assert cached(*asked, how) is None
    data.setup()
    shutil.rmtree(root)
    found = cached(*asked, how)
    assert found is not None and found.names == data.cache.names
    assert all(np.array_equal(a, b) for i in range(10) for a, b in zip(found[i], data.cache[i], strict=True))
    assert cached(*asked, how._replace(size=(8, 8))) is None
    assert cached(*asked, how._replace(classes={"other": "#000000"})) is None


def test_a_changed_source_is_read_anew_even_with_its_old_time(root: Path) -> None:
    import os

    first = make(root)
    path = root / "label" / "1.png"
    stat = path.stat()
    content, before = first.content, first.cache[0][1].copy()
    write_pair(root, "1", value=2)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    second = make(root)
    assert second.content != content
    assert (second.cache[0][1] == 2).all() and not (before == 2).all()


def test_a_damaged_cache_is_made_again(root: Path) -> None:
    make(root).setup()
    (pixels,) = (root.parent / "cache").glob("*/pixels.bin")
    pixels.write_bytes(pixels.read_bytes()[:-1])
    assert len(make(root).cache) == 10


def _open(root: Path, barrier, results) -> None:
    reader = FolderReader()
    pairs, _ = reader.pairs(root)
    barrier.wait()
    content = content_hash(pairs, Digests(root.parent / "cache"))
    cache = open_cache(root.parent / "cache", content, pairs, Decoding(reader, CLASSES, (16, 16)))
    results.put(int(sum(cache[i][0].sum(dtype=np.int64) for i in range(len(cache)))))


def test_two_processes_build_one_cache(root: Path) -> None:
    barrier, results = FORKS.Barrier(2), FORKS.Queue()
    processes = [FORKS.Process(target=_open, args=(root, barrier, results)) for _ in range(2)]
    for p in processes:
        p.start()
    sums = [results.get(timeout=60) for _ in processes]
    for p in processes:
        p.join()
    assert sums[0] == sums[1] > 0
    assert len(list((root.parent / "cache").glob("*/pixels.bin"))) == 1
    assert not list((root.parent / "cache").glob("making-*"))


def test_a_cache_that_is_too_short_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"names": ["1"], "sizes": [[2, 2]], "class_counts": [[4]]}')
    (tmp_path / "pixels.bin").write_bytes(b"12")
    with pytest.raises(OSError, match="2 bytes, expected 16"):
        PixelCache(tmp_path)


class Darker(FolderReader):
    """A reader whose pixels depend on a setting of its own."""

    def __init__(self, by: int = 0):
        super().__init__()
        self.by = by

    def load(self, pair, classes):
        image, mask = super().load(pair, classes)
        return image // 2**self.by, mask


def test_readers_that_differ_in_anything_share_no_cache(root: Path) -> None:
    images = [make(root, reader=reader).cache[0][0].copy() for reader in (FolderReader(), Darker(1), Darker(2))]
    assert (images[1] == images[0] // 2).all() and (images[2] == images[0] // 4).all()
    assert len(list((root.parent / "cache").glob("*/pixels.bin"))) == 3
    make(root, reader=Darker(1)).setup()
    assert len(list((root.parent / "cache").glob("*/pixels.bin"))) == 3
    assert FolderReader({"#000000": "ground"}).key != FolderReader().key


def test_a_disk_without_room_is_one_line_with_path_need_and_rest(root: Path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9_000_000_000, 0, 19_199))
    for size, need in ((None, 10 * 20 * 24 * 4), ([100, 50], 10 * 100 * 50 * 4)):
        with pytest.raises(CacheFull) as e:
            make(root, size=size, cache="disk").setup()
        said = str(e.value)
        words = f"decoded data need {need / 1e6:.2f} MB (4 bytes a pixel), 0.02 MB are free"
        assert said.startswith(f"{root.parent / 'cache'}: {words}")
        assert "data.cache_dir" in said and "\n" not in said
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9_000_000_000, 0, 19_200))
    make(root).setup()
    assert not list((root.parent / "cache").glob("making-*"))


def test_a_disk_that_fills_up_meanwhile_says_the_same(root: Path, monkeypatch) -> None:
    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "write", full)
    with pytest.raises(CacheFull, match=r"decoded data need 0.02 MB \(4 bytes a pixel\), .* are free"):
        make(root, cache="disk").setup()
    assert not list((root.parent / "cache").glob("making-*"))


def test_files_that_cannot_be_read_are_named(root: Path) -> None:
    pairs, _ = FolderReader().pairs(root)
    pairs[0].image.unlink()
    pairs[1].label.unlink()
    with pytest.raises(DataError) as e:
        content_hash(pairs, Digests(root.parent / "cache"))
    assert e.value.problems == [
        "data/1.png: not readable (No such file or directory)",
        "label/2.png: not readable (No such file or directory)",
    ]
