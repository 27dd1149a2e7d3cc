"""Where decoded pixels are kept changes no pixel, and what does not fit is one line."""

import errno
import logging
import os
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image

from seglab.config.compose import config_of
from seglab.config.identity import identity
from seglab.data import FolderReader
from seglab.data.kept import keeping
from seglab.data.kept.cache import CacheFull, CacheUnusable, PixelCache
from seglab.data.kept.image_set import InMemory
from seglab.data.kept.source import SourceImages
from tests.conftest import write_pair
from tests.test_conf import composed
from tests.test_data import make, problems

TURNED = [A.HorizontalFlip(p=0.5), A.RandomBrightnessContrast(p=0.5)]
usage = namedtuple("usage", "total used free")


class Counting(FolderReader):
    """A reader that knows which pairs it decoded."""

    def __init__(self) -> None:
        super().__init__()
        self._loaded: list[str] = []

    def load(self, pair, classes):
        self._loaded.append(pair.name)
        return super().load(pair, classes)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A disk without room."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9_000, 0, 8_000))
    yield


def batches(root: Path, kept: str, **settings) -> list:
    data = make(root, cache=kept, augment=TURNED, score_train=True, **settings)
    data.setup()
    return [batch for loader in (data.train_dataloader(), *data.val_dataloader()) for batch in loader]


@pytest.mark.parametrize("settings", [{}, {"size": 16}, {"crop": 8, "num_workers": 2}])
def test_batches_are_the_same_wherever_pixels_are_kept(root: Path, settings: dict) -> None:
    want, *others = (batches(root, kept, **settings) for kept in ("disk", "memory", "none"))
    assert len(want) > 4
    for got in others:
        for a, b in zip(want, got, strict=True):
            assert a["name"] == b["name"]
            assert torch.equal(a["image"], b["image"]) and torch.equal(a["mask"], b["mask"])


def test_all_places_tell_the_same_of_the_images(root: Path) -> None:
    sets = [make(root, cache=kept, size=16).cache.whole for kept in ("none", "memory", "disk")]
    assert [type(found) for found in sets] == [SourceImages, InMemory, PixelCache]
    for name in ("names", "sizes", "originals", "scenes", "dtype", "bands", "owners"):
        assert len({str(getattr(found, name)) for found in sets}) == 1, name
    assert all((found.class_counts == sets[0].class_counts).all() for found in sets)


def test_memory_writes_nothing_and_none_keeps_no_pixels(root: Path) -> None:
    make(root, cache="memory").setup()
    assert not list((root.parent / "cache").glob("*/"))
    make(root, cache="none").setup()
    (kept,) = (path for path in (root.parent / "cache").iterdir() if path.is_dir())
    assert [path.name for path in kept.iterdir()] == ["index.json"]


def test_the_second_start_decodes_no_image(root: Path) -> None:
    first, second, damaged = Counting(), Counting(), Counting()
    assert len(make(root, cache="none", reader=first).cache) == 10
    assert sorted(first._loaded, key=int) == [str(i) for i in range(1, 11)]
    data = make(root, cache="none", reader=second)
    assert len(data.cache) == 10 and not second._loaded
    assert data.cache[3][1].shape == (20, 24) and second._loaded == ["4"]
    (index,) = (root.parent / "cache").glob("*-index/index.json")
    index.write_text(index.read_text()[:-9])
    assert len(make(root, cache="none", reader=damaged).cache) == 10
    assert len(damaged._loaded) == 10


def test_what_the_disk_already_holds_is_not_decoded_again(root: Path, full: None, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(9e9, 0, 8e9))
        make(root, reader=Counting()).setup()
    for kept, kind in ((None, PixelCache), ("memory", InMemory), ("none", SourceImages)):
        reader = Counting()
        assert isinstance(make(root, cache=kept, reader=reader).cache, kind)
        assert not reader._loaded


def test_without_room_on_the_disk_nothing_is_kept_unless_the_disk_is_asked_for(
    root: Path, full: None, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(
        CacheFull, match=r"decoded data need 0\.02 MB .* 0\.01 MB are free; accepted .* data.cache=none"
    ):
        make(root, cache="disk").setup()
    data = make(root)
    data.setup()
    assert isinstance(data.cache, SourceImages)
    (said,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and "need" in r.getMessage())
    assert said.startswith(f"{root.parent / 'cache'}: decoded data need") and "\n" not in said
    assert said.endswith("Nothing is kept: each image is decoded whenever it is needed")


def test_windows_of_images_that_are_decoded_whole_are_refused(root: Path, full: None) -> None:
    settings = {"windows": 4, "crop": 8}
    for more, why in (({}, "these images are decoded whole"), ({"size": 16}, "data.size resizes whole scenes")):
        with pytest.raises(ValueError, match=f"data.windows: {why}; accepted is data.cache=disk or memory"):
            make(root, cache="none", **settings, **more).setup()
    with pytest.raises(CacheFull):
        make(root, **settings).setup()
    assert len(make(root, cache="memory", **settings).cache) == 10 * 9


def test_a_large_set_tells_its_size_before_it_is_decoded(root: Path, monkeypatch, caplog) -> None:
    said: list[str] = []
    monkeypatch.setattr("seglab.data.kept.cache.LARGE", 19_200)
    monkeypatch.setattr("seglab.data.kept.cache.write", lambda *_: said.extend(caplog.messages) or 1 / 0)
    with caplog.at_level(logging.INFO), pytest.raises(ZeroDivisionError):
        make(root, cache="disk").setup()
    wanted = f"{root.parent / 'cache'}: decoded data need 0.0 GB (4 bytes a pixel), "
    assert any(line.startswith(wanted) for line in said)


def test_memory_that_is_too_small_is_one_line(root: Path, monkeypatch) -> None:
    monkeypatch.setattr(keeping, "free_memory", lambda: 19_199)
    said = r"data.cache=memory: decoded data need 0.02 MB \(4 bytes a pixel\), 0.02 MB of memory are free; accepted is"
    with pytest.raises(ValueError, match=said):
        make(root, cache="memory").setup()


def test_a_cache_that_cannot_be_written_is_one_line(root: Path, tmp_path: Path, caplog) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(
            CacheUnusable, match=rf"^{place}: decoded data can't be kept there \(.*\); accepted is a folder"
        ):
            make(root, cache_dir=str(place)).setup()
        for kept in ("memory", "none"):
            make(root, cache_dir=str(place), cache=kept).setup()
    assert "the index can't be kept" in caplog.text


@pytest.mark.parametrize("kept", ["memory", "none"])
def test_every_problem_is_reported_at_once(root: Path, kept: str) -> None:
    write_pair(root, "2", value=9)
    Image.new("RGB", (5, 6)).save(root / "data" / "3.png")
    assert problems(root, cache=kept) == [
        "label/2.png: label values 9: accepted are 0..3 and 255 (void)",
        "data/3.png: the image is 5x6, its label 24x20",
    ]
    assert not list((root.parent / "cache").glob("*/index.json"))


def test_a_file_that_changes_in_use_ends_the_training(root: Path) -> None:
    data = make(root, cache="none")
    assert data.cache[1][1].shape == (20, 24)
    write_pair(root, "2", value=1)
    with pytest.raises(ValueError, match=r"data/2.png: changed while it was in use"):
        data.cache[1]
    assert data.cache[2][1].shape == (20, 24)


def test_where_pixels_are_kept_is_no_part_of_the_identity() -> None:
    keys = {
        identity(config_of(composed("data=folder", "data.root=x", "precision=32", *more)), "c").key
        for more in ([], ["data.cache=none"], ["data.cache=memory"], ["data.verify=true"])
    }
    assert len(keys) == 1


def test_a_place_that_there_is_not(root: Path) -> None:
    with pytest.raises(ValueError, match="cache=ram: accepted is null, disk, memory or none"):
        make(root, cache="ram")
    assert np.array_equal(make(root, cache="memory").cache[0][0], make(root).cache[0][0])


class Restless(Counting):
    """A reader while which somebody writes another label: its content was told before."""

    def load(self, pair, classes):
        loaded = super().load(pair, classes)
        if pair.name == "1":
            label = pair.label.with_name("7.png")
            other = label.with_name(".other")
            other.write_bytes(label.with_name("3.png").read_bytes())
            other.rename(label)
        return loaded


@pytest.mark.parametrize("kept", ["disk", "memory", "none"])
def test_a_file_that_changes_between_its_digest_and_its_decoding_poisons_nothing(root: Path, kept: str) -> None:
    before = make(root, cache=kept)
    data = make(root, cache=kept, reader=Restless())
    assert data.content == before.content
    with pytest.raises(
        ValueError, match=r"^label/7\.png: changed while the data were read; accepted are files that stay$"
    ):
        data.setup()
    assert not list((root.parent / "cache").glob("*/"))
    after = make(root, cache=kept)
    after.setup()
    assert after.content != before.content and (after.cache[6][1] == after.cache[2][1]).all()


def test_an_index_that_can_not_be_written_is_made_again(root: Path, monkeypatch, caplog) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(keeping, "write_whole", full)
    reader = Counting()
    assert len(make(root, cache="none", reader=reader).cache) == 10 == len(reader._loaded)
    assert "the index can't be kept ([Errno 28]" in caplog.text


def test_a_copy_that_is_there_needs_no_lock(root: Path, monkeypatch) -> None:
    """Many processes may share a folder that they can't write."""
    make(root).setup()

    def refused(folder: Path) -> None:
        raise AssertionError(folder)

    monkeypatch.setattr("seglab.data.kept.cache.locked", refused)
    make(root).setup()
