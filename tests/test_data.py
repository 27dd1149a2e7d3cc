"""From a folder to batches: what is read, what is refused, and that nothing depends on how it is run."""

import multiprocessing
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image

from seglab.data import DataError, FolderReader, SegmentationData
from seglab.data.cache import PixelCache, content_hash, open_cache
from seglab.data.split import SplitError, split
from seglab.labels import VOID

CLASSES = {"ground": "#c8c8c8", "roof": "#d1495b", "tree": "#3f8f4f", "water": "#2e6fb7"}


def write_pair(root: Path, name: str, size: tuple[int, int] = (20, 24), value: int | None = None) -> None:
    rng = np.random.default_rng(len(name) + ord(name[0]))
    for sub, array in {
        "data": rng.integers(0, 256, (*size, 3)),
        "label": rng.integers(0, 4, size) if value is None else np.full(size, value),
    }.items():
        (root / sub).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array.astype(np.uint8)).save(root / sub / f"{name}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i in range(1, 11):
        write_pair(tmp_path / "set", str(i))
    (tmp_path / "set" / "scenes.csv").write_text("name,scene\n" + "".join(f"{i},s{i // 3}\n" for i in range(1, 11)))
    return tmp_path / "set"


def make(root: Path, **settings) -> SegmentationData:
    defaults = {"classes": CLASSES, "reader": FolderReader(), "augment": [], "cache_dir": str(root.parent / "cache")}
    return SegmentationData(**(defaults | {"root": root, "seed": 0, "batch_size": 3} | settings))


def problems(root: Path, **settings) -> list[str]:
    with pytest.raises(DataError) as e:
        make(root, **settings).setup()
    return e.value.problems


def test_pairs_come_in_natural_order_with_their_scene(root: Path) -> None:
    pairs, _ = FolderReader().pairs(root)
    assert [p.name for p in pairs] == [str(i) for i in range(1, 11)]
    assert pairs[3].scene == "s1"


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_image_formats(tmp_path: Path, suffix: str) -> None:
    for sub in ("data", "label"):
        (tmp_path / sub).mkdir()
    image, label = np.full((8, 9, 3), 70, np.uint8), np.tile(np.arange(3, dtype=np.uint8), (8, 3))
    Image.fromarray(image).save(tmp_path / "data" / f"1.{suffix}")
    Image.fromarray(label).save(tmp_path / "label" / ("1.png" if suffix == "jpg" else f"1.{suffix}"))
    got_image, got_mask = FolderReader().load(FolderReader().pairs(tmp_path)[0][0], CLASSES)
    assert np.abs(got_image.astype(int) - image).max() <= 2
    assert (got_mask == label).all()


def test_every_problem_is_reported_at_once(root: Path) -> None:
    (root / "label" / "1.png").unlink()
    (root / "data" / "6.png").unlink()
    write_pair(root, "2", value=9)
    Image.new("RGB", (5, 6)).save(root / "data" / "3.png")
    (root / "data" / "4.png").write_bytes((root / "data" / "4.png").read_bytes()[:300])
    (root / "data" / "5.png").write_text("no picture")
    *found, last = problems(root, val_scenes=["s7"])
    assert found[:2] == ["data/1.png: there is no label/1.*", "label/6.png: there is no data/6.*"]
    found = found[2:]
    assert found[0] == "label/2.png: label values 9: accepted are 0..3 and 255 (void)"
    assert found[1] == "data/3.png: the image is 5x6, its label 24x20"
    assert found[2].startswith("data/4.png: ") and "truncated" in found[2]
    assert found[3] == "data/5.png: not a readable image"
    assert len(found) == 4
    assert last == "val_scenes ['s7']: no such scene, accepted are ['s0', 's1', 's2', 's3']"
    assert not list((root.parent / "cache").glob("*/pixels.bin")), "a cache of broken data was kept"


def test_folders_that_hold_nothing(tmp_path: Path) -> None:
    assert problems(tmp_path / "none") == ["no such folder: data.root must hold data/ and label/"]
    (tmp_path / "data").mkdir()
    assert problems(tmp_path) == [
        "data/: no images in it (.png, .jpg, .jpeg, .bmp, .tif, .tiff)",
        "label/: no such folder",
    ]


def test_scenes_must_name_every_image(root: Path) -> None:
    (root / "scenes.csv").write_text("name,scene\n1,a\n")
    assert problems(root)[0] == "scenes.csv: no scene for 2"
    (root / "scenes.csv").write_text("image;scene\n")
    assert problems(root) == ["scenes.csv: columns ['image;scene'], expected name,scene"]


def test_two_files_of_one_name(root: Path) -> None:
    Image.new("RGB", (24, 20)).save(root / "data" / "1.jpg")
    assert problems(root) == ["data/1.png: 1.jpg has the same name"]


def test_unknown_colour(root: Path) -> None:
    found = problems(root, reader=FolderReader(palette={"#000000": "ground"}))
    assert found[0].startswith("label/1.png: label colours #010101, #020202, #030303: accepted are #000000")


def test_images_of_several_sizes_need_a_size_or_a_crop(root: Path) -> None:
    write_pair(root, "1", (30, 30))
    settings = {"val_scenes": ["s3"]}
    assert problems(root, **settings) == ["images of 2 sizes can't be batched: set data.size or data.crop"]
    make(root, **settings, size=16).setup()
    make(root, **settings, crop=16).setup()


def test_split_by_scene_never_divides_a_scene() -> None:
    groups = [f"s{i // 5}" for i in range(40)]
    for settings in ({}, {"val_fraction": 0.5}, {"fold": 1, "folds": 3}, {"split_seed": 7}):
        train, val = split(groups, **settings)
        assert sorted(train + val) == list(range(40))
        assert not {groups[i] for i in train} & {groups[i] for i in val}
    assert len(split(groups, val_fraction=0.5)[1]) == 20
    assert split(groups, val_scenes=["s2"])[1] == [10, 11, 12, 13, 14]


def test_folds_cover_everything_once() -> None:
    groups = list("aaabbcdefg")
    parts = [split(groups, fold=f, folds=4)[1] for f in range(4)]
    assert sorted(i for p in parts for i in p) == list(range(10))


@pytest.mark.parametrize(
    ("groups", "settings", "message"),
    [
        ("ab", {"val_scenes": ["c"]}, "no such scene, accepted are"),
        ("ab", {"val_scenes": ["a", "b"]}, "0 images to train"),
        ("ab", {"val_scenes": []}, "0 to validate"),
        ("aa", {}, "each side needs one"),
        ("abc", {"fold": 5}, r"accepted are 0\.\.4"),
        ("abc", {"fold": 0, "folds": 4}, "only 3 scenes"),
    ],
)
def test_wrong_splits(groups: str, settings: dict, message: str) -> None:
    with pytest.raises(SplitError, match=message):
        split(list(groups), **settings)


def test_a_split_without_scenes_is_warned_of(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "scenes.csv").unlink()
    make(root).setup()
    assert "has no scenes.csv" in caplog.text


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
    cache = open_cache(root.parent / "cache", content_hash(pairs), pairs, reader, CLASSES, (16, 16))
    results.put(int(sum(cache[i][0].sum(dtype=np.int64) for i in range(len(cache)))))


def test_two_processes_build_one_cache(root: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_open, args=(root, barrier, results)) for _ in range(2)]
    for p in processes:
        p.start()
    sums = [results.get(timeout=60) for _ in processes]
    for p in processes:
        p.join()
    assert sums[0] == sums[1] > 0
    assert len(list((root.parent / "cache").glob("*/pixels.bin"))) == 1
    assert not list((root.parent / "cache").glob("making-*"))


def test_labels_are_resized_by_nearest_and_keep_their_place(root: Path) -> None:
    label = np.zeros((20, 24), np.uint8)
    label[:, 12:] = 3
    Image.fromarray(label).save(root / "label" / "1.png")
    mask = make(root, size=[10, 12]).cache[0][1]
    assert mask.shape == (10, 12)
    assert (mask[:, :6] == 0).all() and (mask[:, 6:] == 3).all()


def loaded(data: SegmentationData, epoch: int) -> list[dict]:
    data.setup()
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


AUGMENT = [A.HorizontalFlip(p=0.5), A.RandomRotate90(p=0.5), A.RandomBrightnessContrast(p=0.5)]


def test_batches_do_not_depend_on_workers_or_on_history(root: Path) -> None:
    first = loaded(make(root, augment=AUGMENT, crop=16), epoch=3)
    np.random.seed(1)
    torch.manual_seed(1)
    used = make(root, augment=AUGMENT, crop=16, num_workers=2)
    loaded(used, epoch=0)
    for want, got in zip(first, loaded(used, epoch=3), strict=True):
        assert want["name"] == got["name"]
        assert torch.equal(want["image"], got["image"]) and torch.equal(want["mask"], got["mask"])


def test_epochs_differ_in_order_and_in_augmentation(root: Path) -> None:
    data = make(root, augment=AUGMENT, crop=16, batch_size=1)
    epochs = [{b["name"][0]: b["image"] for b in loaded(data, e)} for e in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert list(epochs[0]) != list(epochs[1])
    assert any(not torch.equal(epochs[0][n], epochs[1][n]) for n in epochs[0])


def test_a_batch_becomes_tensors_on_the_device(root: Path) -> None:
    data = make(root)
    raw = loaded(data, 0)[0]
    raw["mask"][0, 0, 0] = VOID
    batch = data.on_after_batch_transfer(raw, 0)
    assert batch["image"].shape == (3, 3, 20, 24) and batch["image"].dtype == torch.float32
    assert batch["image"].max() > 1 and batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert batch["target"].shape == (3, 4, 20, 24)
    assert batch["target"][0, :, 0, 0].tolist() == [0, 0, 0, 0]
    assert torch.equal(batch["target"].argmax(1)[1:], batch["mask"][1:].long())


def test_a_crop_larger_than_the_image_is_filled_with_void(root: Path) -> None:
    batch = loaded(make(root, crop=32), 0)[0]
    assert batch["mask"].shape == (3, 32, 32)
    assert (batch["mask"] == VOID).sum() == 3 * (32 * 32 - 20 * 24)


def test_validation_sees_whole_images(root: Path) -> None:
    write_pair(root, "1", (30, 33))
    data = make(root, crop=8, val_scenes=["s0", "s1"], score_train=True)
    data.setup()
    val, train = data.val_dataloader()
    assert [tuple(b["image"].shape[1:3]) for b in val] == [(30, 33), *[(20, 24)] * 4]
    assert sum(len(b["name"]) for b in train) == 5


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (A.Rotate(fill_mask=0), "fill_mask=0"),
        (A.OneOf([A.Affine(fill_mask=0)]), "fill_mask=0"),
        (A.Rotate(fill_mask=VOID, mask_interpolation=1), "labels are never interpolated"),
    ],
)
def test_augmentation_that_would_invent_labels_is_refused(root: Path, transform, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(root, augment=[transform])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"batch_size": 0}, "^batch_size=0: accepted is 1 or more"),
        ({"size": 0}, "^size=0: accepted is one number"),
        ({"crop": [3]}, r"^crop=\[3\]: accepted is one number"),
        ({"val_fraction": 1.5}, "^val_fraction=1.5: accepted is a share between 0 and 1"),
        ({"classes": {"one": "#000000"}}, "at least 2"),
        ({"classes": {"a": "red", "b": "#000000"}}, "expected #rrggbb"),
    ],
)
def test_wrong_settings_say_what_is_accepted(root: Path, setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(root, **setting)


def test_pictures_are_of_the_same_validation_images_in_every_run(root: Path) -> None:
    data, again = make(root, val_fraction=0.5), make(root, val_fraction=0.5, seed=9, batch_size=1)
    chosen = data.picture_indices(3)
    assert chosen == again.picture_indices(3) and len(set(chosen)) == 3
    assert set(chosen) <= set(data.indices[1])


def test_a_cache_that_is_too_short_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"names": ["1"], "sizes": [[2, 2]], "class_counts": [[4]]}')
    (tmp_path / "pixels.bin").write_bytes(b"12")
    with pytest.raises(OSError, match="2 bytes, expected 16"):
        PixelCache(tmp_path)
