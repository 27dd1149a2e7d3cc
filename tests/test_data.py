"""From a folder to batches: what is read, what is refused, and that nothing depends on how it is run."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image

from seglab.data import DataError, FolderReader, SegmentationData
from seglab.data.augment.transforms import Augmentation
from seglab.data.decoded import DecodedData
from seglab.labels import VOID
from seglab.training.keeper import Keeper
from tests.conftest import write_pair

CLASSES = {"ground": "#c8c8c8", "roof": "#d1495b", "tree": "#3f8f4f", "water": "#2e6fb7"}


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


def test_a_split_without_scenes_is_warned_of(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "scenes.csv").unlink()
    make(root).setup()
    assert "has no scenes.csv" in caplog.text


def test_a_decoded_copy_is_not_called_a_folder_without_scenes(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "scenes.csv").unlink()
    data = make(root)
    data.setup()
    caplog.clear()
    settings = {"classes": CLASSES, "reader": FolderReader(), "augment": [], "seed": 0}
    copy = DecodedData(data.cache.whole, data.content, root.parent / "cache", **settings)
    assert copy.pair_sides == data.pair_sides and "scenes.csv" not in caplog.text


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
        ({"classes": {str(i): "#000000" for i in range(256)}}, "at most 255"),
        ({"classes": {0: "#000000", 1: "#ffffff"}}, 'class name 0: YAML reads it as a number; accepted is .*: "0"$'),
        ({"classes": {1.5: "#000000", 1: "#ffffff"}}, 'in quotes: "1.5"$'),
        ({"classes": {"a": "#000000", True: "#ffffff"}}, 'class name True: YAML reads .* true or false; .*: "yes"$'),
        ({"classes": {"a": "#000000", False: "#ffffff"}}, '"no"$'),
        ({"classes": {"a": "#000000", " ": "#ffffff"}}, "accepted is a name that can be read"),
        ({"reader": FolderReader({"#010101": "wader"})}, "'wader', which is no class; did you mean water?"),
    ],
)
def test_wrong_settings_say_what_is_accepted(root: Path, setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(root, **setting)


def test_flips_and_turns_are_drawn_independently() -> None:
    """Of one seed for each of them, a sample would be left as it is or turned, but never mirrored."""
    picture = np.arange(4, dtype=np.uint8).reshape(2, 2)
    augmentation = Augmentation([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5), A.RandomRotate90(p=0.5)], None)
    image = picture[..., None].repeat(3, 2)
    seen = Counter(augmentation(image, picture, 0, 0, i)[1].tobytes() for i in range(800))
    # a quarter each of the four without a swap of sides, less those that are turned by 90 degrees: half of a half
    swapped = {n for view, n in seen.items() if abs(view[0] - view[1]) == 2}
    assert len(seen) == 8 and len(swapped) == 4
    assert all(20 < n < 85 for n in swapped) and all(110 < n < 190 for n in set(seen.values()) - swapped)


def test_pictures_are_of_the_same_validation_images_in_every_run(root: Path) -> None:
    data, again = make(root, val_fraction=0.5), make(root, val_fraction=0.5, seed=9, batch_size=1)
    config: Any = SimpleNamespace(pictures=3)
    chosen = Keeper(data, config).pictures
    assert chosen == Keeper(again, config).pictures and len(chosen) == len(set(chosen.values())) == 3
    assert set(chosen.values()) <= set(data.indices[1]) and all(data.cache.names[i] == n for n, i in chosen.items())
