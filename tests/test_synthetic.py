"""The procedural scenes: what they hold, that they repeat, and that their folder is made once and whole."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seglab.data import synthetic
from seglab.data.folder import FolderReader
from seglab.data.synthetic import BUILDING, GROUND, VEGETATION, WATER, draw_scene, ensure_scenes, write_scenes

CLASSES = {"background": "#000000", "building": "#ff0000", "vegetation": "#00ff00", "water": "#0000ff"}
SMALL: dict[str, Any] = {"num_scenes": 2, "tiles_per_scene": 2, "size": 48, "seed": 3, "label_noise": 0.0}


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def default_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_scenes(tmp_path_factory.mktemp("default"))


@pytest.fixture(scope="module")
def default_pairs(default_set: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    reader = FolderReader()
    pairs, problems = reader.pairs(default_set)
    assert problems == []
    return [reader.load(pair, CLASSES) for pair in pairs]


def test_the_folder_reader_reads_every_tile(default_pairs):
    assert len(default_pairs) == 80
    assert {image.shape for image, _ in default_pairs} == {(96, 96, 3)}
    assert {mask.shape for _, mask in default_pairs} == {(96, 96)}
    assert set(np.unique([mask for _, mask in default_pairs])) == {GROUND, BUILDING, VEGETATION, WATER}


def test_files_are_rgb_and_class_ids(default_set):
    with Image.open(default_set / "data" / "7.png") as image, Image.open(default_set / "label" / "7.png") as label:
        assert (image.mode, label.mode) == ("RGB", "L")


def test_classes_are_as_unequal_as_stated(default_pairs):
    masks = np.stack([mask for _, mask in default_pairs])
    share = np.bincount(masks.ravel(), minlength=4) / masks.size
    bounds = {GROUND: (0.55, 0.68), BUILDING: (0.1, 0.15), VEGETATION: (0.1, 0.2), WATER: (0.05, 0.12)}
    for label, (low, high) in bounds.items():
        assert low <= share[label] <= high, (label, share)


def test_four_scenes_hold_all_classes_for_any_seed():
    for seed in range(3):
        labels = [draw_scene(seed, scene, 96, 192)[1] for scene in range(4)]
        assert set(np.unique(labels)) == {GROUND, BUILDING, VEGETATION, WATER}


def test_scenes_csv_names_each_tile_once(default_set):
    head, *rows = (default_set / "scenes.csv").read_text().splitlines()
    assert head == "name,scene"
    assert rows == [f"{k},scene{k // 4:02d}" for k in range(80)]


def test_tiles_lie_side_by_side_in_their_scene(tmp_path):
    write_scenes(tmp_path, 2, 3, 48, 5, 0.0)
    for folder, scene in zip(("data", "label"), draw_scene(5, 1, 48, 144), strict=True):
        tiles = [np.asarray(Image.open(tmp_path / folder / f"{k}.png")) for k in (3, 4, 5)]
        assert np.array_equal(np.concatenate(tiles, 1), scene)


def test_same_settings_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in ("a", 3), ("b", 3), ("c", 4):
        write_scenes(tmp_path / name, **SMALL | {"seed": seed})
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert len(a) == 9 and a == b
    assert all(a[name] != c[name] for name in a if name.startswith("data"))


def test_a_scene_does_not_depend_on_how_many_there_are(tmp_path):
    for name, count in ("few", 1), ("more", 2):
        write_scenes(tmp_path / name, **SMALL | {"num_scenes": count})
    few, more = contents(tmp_path / "few"), contents(tmp_path / "more")
    assert all(few[name] == more[name] for name in few if name != "scenes.csv")


@pytest.mark.parametrize(("share", "low", "high"), [(0.5, 0.2, 0.8), (1.0, 0.5, 1.2)])
def test_label_noise_spoils_vegetation_only(share, low, high):
    """Bounds are for changed pixels per pixel of true vegetation."""
    changed = true = 0
    for scene in range(6):
        (clean_image, clean), (image, noisy) = (draw_scene(0, scene, 96, 192, noise) for noise in (0.0, share))
        assert np.array_equal(clean_image, image)
        different = clean != noisy
        assert np.isin(clean[different], (GROUND, VEGETATION)).all()
        assert np.isin(noisy[different], (GROUND, VEGETATION)).all()
        changed, true = changed + different.sum(), true + (clean == VEGETATION).sum()
    assert low < changed / true < high


def test_label_noise_misses_moves_and_surrounds():
    """Three discs: one vanishes, one keeps its form elsewhere, one becomes a hexagon that holds it."""
    y, x = np.mgrid[:40, :120]
    discs = [np.hypot(y - 20, x - centre) < 7.5 for centre in (20, 60, 100)]
    label = np.where(np.any(discs, 0), VEGETATION, GROUND).astype(np.uint8)
    synthetic._spoil_vegetation(label, 1.0, np.random.default_rng(0))
    left = [label[:, k : k + 40] == VEGETATION for k in (0, 40, 80)]
    missed, moved, surrounded = sorted(left, key=np.sum)
    disc = discs[0][:, :40]
    assert missed.sum() == 0
    assert moved.sum() == disc.sum() and not np.array_equal(moved, disc)
    assert surrounded[disc].all() and surrounded.sum() > 1.2 * disc.sum()


def test_ensure_draws_once_and_silently(tmp_path, capfd):
    root = ensure_scenes(tmp_path / "cache", **SMALL)
    before = {p: p.stat().st_mtime_ns for p in [root, *root.rglob("*")]}
    assert ensure_scenes(str(tmp_path / "cache"), **SMALL | {"label_noise": 0}) == root
    assert {p: p.stat().st_mtime_ns for p in [root, *root.rglob("*")]} == before
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [root.name]
    assert capfd.readouterr() == ("", "")


def test_ensure_has_a_folder_for_each_setting_and_version(tmp_path, monkeypatch):
    changes: list[dict[str, Any]] = [{}, {"seed": 1}, {"tiles_per_scene": 1}, {"size": 32}, {"label_noise": 0.25}]
    roots = [ensure_scenes(tmp_path, **SMALL | change) for change in changes]
    monkeypatch.setattr(synthetic, "GENERATOR_VERSION", synthetic.GENERATOR_VERSION + 1)
    roots.append(ensure_scenes(tmp_path, **SMALL))
    assert len(set(roots)) == 6
    assert all(root.name.startswith("synthetic-") for root in roots)


def test_ensure_leaves_nothing_when_drawing_fails(tmp_path, monkeypatch):
    def fail_at_second(seed, scene, *size_and_noise):
        if scene == 1:
            raise OSError("no space left on device")
        return draw_scene(seed, scene, *size_and_noise)

    monkeypatch.setattr(synthetic, "draw_scene", fail_at_second)
    with pytest.raises(OSError, match="no space left"):
        ensure_scenes(tmp_path, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_the_slower_process_takes_the_folder_of_the_faster(tmp_path, monkeypatch):
    rename = os.rename
    winner: list[Path] = []

    def come_second(source, target):
        if not winner:
            winner.append(source)
            write_scenes(Path(target), **SMALL)
            (Path(target) / "first").touch()
        rename(source, target)

    monkeypatch.setattr(os, "rename", come_second)
    root = ensure_scenes(tmp_path, **SMALL)
    assert winner and (root / "first").exists()
    assert list(tmp_path.iterdir()) == [root]


ONE_OF_TWO = f"""
import runpy, sys
from pathlib import Path
ensure_scenes = runpy.run_path({synthetic.__file__!r})["ensure_scenes"]  # without the package, which is slow to import
print("ready", flush=True)
sys.stdin.read(1)
print(ensure_scenes(Path(sys.argv[1]), **{SMALL}))
"""


def test_two_processes_at_once_make_one_folder(tmp_path):
    command = [sys.executable, "-c", ONE_OF_TWO, str(tmp_path / "cache")]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    printed = [p.communicate()[0].strip() for p in both]
    assert [p.returncode for p in both] == [0, 0]
    assert printed[0] == printed[1]
    write_scenes(tmp_path / "alone", **SMALL)
    assert contents(Path(printed[0])) == contents(tmp_path / "alone")
    assert [str(p) for p in (tmp_path / "cache").iterdir()] == printed[:1]


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("num_scenes", 0, "1 or more"),
        ("tiles_per_scene", 0, "1 or more"),
        ("size", 31, "32 or more"),
        ("seed", -1, "0 or more"),
        ("label_noise", 1.1, "a share from 0 to 1"),
        ("label_noise", float("nan"), "a share from 0 to 1"),
    ],
)
def test_a_wrong_setting_is_one_clear_error(tmp_path, name, value, accepted):
    with pytest.raises(ValueError, match=f"{name}={value}: accepted is {accepted}"):
        ensure_scenes(tmp_path, **{name: value})
    assert list(tmp_path.iterdir()) == []


def test_write_does_not_mix_with_images_that_are_there(tmp_path):
    write_scenes(tmp_path, **SMALL)
    with pytest.raises(FileExistsError, match="data"):
        write_scenes(tmp_path, **SMALL)
