"""Training straight from scenes: which windows are drawn, and what is scored."""

from collections import Counter
from itertools import chain
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image
from test_data import loaded, make, problems

from seglab.data import SegmentationData
from seglab.data.batches.loaders import EpochOrder
from seglab.data.batches.windows import DrawnWindows, WindowGrid, window_named
from seglab.labels import VOID
from seglab.predict.evaluation.evaluate import Wish, evaluate
from seglab.report.page import write_report
from seglab.run.folder import runs_of

SIZES = {"a": (50, 70), "b": (40, 33), "c": (30, 90), "d": (21, 60)}
RARE = (slice(10, 12), slice(60, 63))
"""The six pixels of class 3, all in scene a."""
TURNED = [A.HorizontalFlip(p=0.5), A.RandomRotate90(p=0.5)]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes") / "root"
    rng = np.random.default_rng(0)
    for sub in ("data", "label"):
        (root / sub).mkdir(parents=True)
    for name, size in SIZES.items():
        label = rng.integers(0, 3, size).astype(np.uint8)
        if name == "a":
            label[RARE] = 3
        Image.fromarray(label).save(root / "label" / f"{name}.png")
        Image.fromarray(rng.integers(0, 256, (*size, 3)).astype(np.uint8)).save(root / "data" / f"{name}.png")
    return root


def windowed(root: Path, **settings) -> SegmentationData:
    return make(root, **({"crop": 16, "windows": 40, "val_scenes": ["b", "c"]} | settings))


def drawn(data: SegmentationData) -> DrawnWindows:
    data.setup()
    assert isinstance(data.samples, DrawnWindows)
    return data.samples


def places(samples: DrawnWindows, count: int) -> Counter:
    return Counter(tuple(samples.window(0, i))[:3] for i in range(count))


def expected(data: SegmentationData, balance: bool) -> dict[tuple[int, int, int], float]:
    """The probability of each place (scene, top, left), by the stated formula, pixel by pixel."""
    assert isinstance(data.cache, WindowGrid) and data.crop
    scenes = {i: data.cache.whole[i][1] for i in data.pair_sides[0]}
    (h, w), out = data.crop, Counter()
    rooms = {i: (max(1, m.shape[0] - h + 1), max(1, m.shape[1] - w + 1)) for i, m in scenes.items()}
    if not balance:
        total = sum(y * x for y, x in rooms.values())
        return {(i, t, k): 1 / total for i, (y, x) in rooms.items() for t in range(y) for k in range(x)}
    counts = np.bincount(np.concatenate([m.ravel() for m in scenes.values()]), minlength=256)[:VOID]
    for i, mask in scenes.items():
        for y, x in np.ndindex(mask.shape):
            if mask[y, x] == VOID:
                continue
            holding = [
                (i, t, k)
                for t in range(max(0, y - h + 1), min(y + 1, rooms[i][0]))
                for k in range(max(0, x - w + 1), min(x + 1, rooms[i][1]))
            ]
            for place in holding:
                out[place] += 1 / np.count_nonzero(counts) / counts[mask[y, x]] / len(holding)
    return out


@pytest.mark.parametrize("balance", [None, "classes"])
def test_places_have_the_probabilities_of_the_formula(tmp_path: Path, balance: str | None) -> None:
    for sub in ("data", "label"):
        (tmp_path / "set" / sub).mkdir(parents=True)
    for name, label in {"a": [[0, 0, 0, 1], [0, 0, 0, 0], [VOID, 0, 0, 2]], "b": [[0, 2]], "c": [[0, 1]]}.items():
        Image.fromarray(np.array(label, np.uint8)).save(tmp_path / "set" / "label" / f"{name}.png")
        Image.fromarray(np.zeros((*np.shape(label), 3), np.uint8)).save(tmp_path / "set" / "data" / f"{name}.png")
    data = windowed(tmp_path / "set", crop=2, windows=3, balance=balance, val_scenes=["c"])
    chances, count = expected(data, bool(balance)), 6000
    assert sum(chances.values()) == pytest.approx(1)
    found = places(drawn(data), count)
    assert set(found) == set(chances)
    assert sum((found[p] - count * c) ** 2 / (count * c) for p, c in chances.items()) < 25  # chi squared of 6 degrees


def test_balance_shows_a_rare_class_and_windows_hold_what_they_say(scenes: Path) -> None:
    plain, balanced = (drawn(windowed(scenes, balance=how)) for how in (None, "classes"))
    seen = {}
    for samples in (plain, balanced):
        masks = [samples[i, 0]["mask"].numpy() for i in range(400)]
        assert {m.shape for m in masks} == {(16, 16)}
        seen[samples] = sum(bool((m == 3).any()) for m in masks)
    assert seen[plain] < 30 < 90 < seen[balanced]
    sample, window = balanced[7, 2], balanced.window(2, 7)
    image, mask = balanced.grid.whole[window.scene]
    assert sample["name"] == f"{balanced.grid.whole.names[window.scene]}_{window.top}_{window.left}"
    assert (sample["image"].numpy() == image[window.part]).all() and (sample["mask"].numpy() == mask[window.part]).all()


@pytest.mark.parametrize("balance", [None, "classes"])
def test_samples_do_not_depend_on_workers_a_stop_or_the_number_of_processes(scenes: Path, balance: str | None) -> None:
    settings = {"augment": TURNED, "batch_size": 4, "balance": balance}
    first = loaded(windowed(scenes, **settings), 3)
    assert len(list(chain(*(batch["name"] for batch in first)))) == 40
    assert [b["name"] for b in loaded(windowed(scenes, **settings), 4)] != [b["name"] for b in first]
    resumed = windowed(scenes, num_workers=2, **settings)
    resumed.resume_at(3, 6)
    for want, got in zip(first[6:], loaded(resumed, 3), strict=True):
        assert want["name"] == got["name"]
        assert torch.equal(want["image"], got["image"]) and torch.equal(want["mask"], got["mask"])
    shares = [[i for i, _ in EpochOrder(40, 0, (3, 0), rank, 2)] for rank in range(2)]
    samples = drawn(windowed(scenes, **settings))
    assert sorted(samples[i, 3]["name"] for i in chain(*shares)) == sorted(chain(*(b["name"] for b in first)))
    assert not set(shares[0]) & set(shares[1])


def test_a_scene_smaller_than_a_window_is_filled_with_void(scenes: Path) -> None:
    samples = drawn(windowed(scenes, crop=[30, 20], windows=60))
    small = [i for i in range(60) if samples.grid.whole.names[samples.window(0, i).scene] == "d"]
    masks = [samples[i, 0]["mask"].numpy() for i in small]
    assert masks and all(m.shape == (30, 20) and (m == VOID).sum() == 9 * 20 for m in masks)


def test_validation_sees_every_pixel_of_its_scenes_once(scenes: Path) -> None:
    data = windowed(scenes, score_train=True, batch_size=3)
    data.setup()
    for loader, names in zip(data.val_dataloader(), ("bc", "ad"), strict=True):
        seen = {name: np.zeros(SIZES[name], int) for name in names}
        sizes = [tuple(batch["mask"].shape) for batch in loader]
        assert max(n for n, *_ in sizes) == 3 and (3, 16, 16) in sizes
        for batch in loader:
            for name, mask, image in zip(batch["name"], batch["mask"], batch["image"], strict=True):
                scene, top, left = window_named(name)
                part = (slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1]))
                seen[scene][part] += 1
                whole_image, whole_mask = data.cache.whole[list(SIZES).index(scene)]
                assert (image.numpy() == whole_image[part]).all() and (mask.numpy() == whole_mask[part]).all()
        assert all((count == 1).all() for count in seen.values())
    assert data.class_counts["train"].tolist() == data.cache.whole.class_counts[[0, 3]].sum(0).tolist()


def test_a_training_from_scenes_keeps_maps_scores_and_pictures_of_its_windows(scenes: Path, train, tmp_path) -> None:
    settings = (f"data.root={scenes}", "data.crop=16", "data.windows=8", "data.balance=classes", "epochs=1")
    message, said = train(*settings, "data.val_scenes=[b,c]", "score_train=true")
    assert message == "" and "8 windows train, 21 validate" in said
    (run,) = runs_of(tmp_path / "default")
    kept = run.records.validation()
    assert kept and len(kept.names) == 21 and set(kept.scenes) == {"b", "c"}
    assert kept.confusion.sum() == 40 * 33 + 30 * 90
    assert all((found := run.records.map(name)) is not None and found.size for name in kept.names)
    assert [p.stem for p in run.pictures.iterdir()] == [kept.names[0]]
    page = write_report(tmp_path / "default", data=scenes).read_text()
    assert "not at hand" not in page and kept.names[0] in page
    by_windows = evaluate(run, Wish(out=tmp_path / "out")).content
    assert by_windows["scores"] == run.results()["val"] and by_windows["images"] == 21
    by_tiles = evaluate(run, Wish(out=tmp_path / "out", tile=48)).content
    assert by_tiles["images"] == 2, "whole scenes, as they are mapped"
    assert by_tiles["pixels"] == by_windows["pixels"]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"crop": None}, "windows=40 without crop: accepted is also crop=, the size of a window"),
        ({"windows": 0}, "windows=0: accepted is 1 or more, or null"),
        ({"windows": None, "balance": "classes"}, "balance=classes without windows: accepted is also windows=, the"),
        ({"balance": "class"}, "balance=class: accepted is null or classes"),
    ],
)
def test_settings_that_do_not_fit_together_are_one_line(scenes: Path, settings: dict, why: str) -> None:
    with pytest.raises(ValueError, match=why) as e:
        windowed(scenes, **settings)
    assert "\n" not in str(e.value)


def test_a_window_larger_than_all_training_scenes_is_a_problem(scenes: Path) -> None:
    why = "no training scene holds a window of 64x64, the largest is 70x50: set a smaller data.crop"
    assert problems(scenes, windows=4, crop=64, val_scenes=["b"]) == [why]


def test_names_of_windows_are_read_back_and_others_are_none() -> None:
    assert window_named("a_3_0_512") == ("a_3", 0, 512)
    assert [window_named(name)[0] for name in ("", "a", "a_1", "a_b_1", "a_-1_2")] == [""] * 5
