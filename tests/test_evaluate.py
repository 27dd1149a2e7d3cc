"""`seglab evaluate`: validation's numbers again, a test split that is scored once, and what its files say."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from seglab.data.synthetic import draw_scene
from seglab.predict.evaluation.evaluate import Evaluator, Wish, evaluate
from seglab.run.evaluations import Evaluations
from seglab.run.folder import Run, runs_of

TESTED = ("epochs=2", "loss=dice", "threads=1", "data.test_scenes=['1']", "data.val_fraction=0.4")


@pytest.fixture(autouse=True)
def cache(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGLAB_CACHE", str(images.parent / "cache"))


@pytest.fixture
def run(copied) -> Run:
    """A finished run that keeps one scene of two images for the test."""
    (run,) = runs_of(copied(*TESTED))
    return run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as f:
        return list(csv.DictReader(f))


@pytest.fixture
def pooled(trained) -> Run:
    """A network that pools the whole image, in the precision of most trainings. To be read only."""
    (run,) = runs_of(trained("epochs=2", "loss=dice", "threads=1", "model=deeplabv3plus", "precision=bf16-mixed"))
    return run


@pytest.mark.parametrize("name", ["run", "pooled"])
def test_validation_is_scored_to_the_last_digit(request, name: str, tmp_path: Path) -> None:
    run = request.getfixturevalue(name)
    found = evaluate(run, Wish(out=tmp_path))
    assert found.content["scores"] == run.results()["val"]
    assert found.notes == []
    kept = run.records.validation()
    assert kept is not None
    images = rows(tmp_path / "val_images.csv")
    assert [(row["name"], row["scene"]) for row in images] == list(zip(kept.names, kept.scenes, strict=True))
    assert [float(row["accuracy"]) for row in images] == [np.trace(c) / c.sum() for c in kept.confusion]


def test_a_test_split_is_neither_trained_on_nor_validated(run: Run, images: Path) -> None:
    kept = run.records.validation()
    assert kept is not None and not {"2", "3"} & {*kept.names} and "1" not in kept.scenes
    assert {int(row["images"]) for row in run.times()} == {4}
    assert "4 images train, 4 validate, 2 kept for the test" in run.log_file.read_text()
    content = evaluate(run, Wish("test")).content
    assert (content["images"], content["scenes"], content["pixels"]) == (2, 1, 2 * 32 * 32)
    assert [row["name"] for row in rows(run.folder / "evaluation/test_images.csv")] == ["2", "3"]


def test_it_is_told_in_words_and_in_files(run: Run, seglab, images: Path) -> None:
    ended = seglab("evaluate", run.folder, "--data", images, "--split", "all")
    assert ended.code == 0, ended
    assert ended.err == ("seglab: 4 of these 10 images trained it: the score is no score of new images\n")
    lines = ended.out.splitlines()
    assert lines[0] == "all, last checkpoint: 10 images of 5 scenes, 10,240 labelled pixels"
    assert lines[1].split() == ["IoU", *(word for d in "135" for word in ("boundary", "F", d, "px"))]
    folder = run.folder / "evaluation"
    names = ("all.json", "all_images.csv", "all_scenes.csv", "all_counts.csv")
    assert lines[-4:] == [str(folder / name) for name in names]
    content = json.loads((folder / "all.json").read_text())
    shown = {line.split("  ")[0]: line.split()[-4:] for line in lines[2:7]}
    for i, (name, iou) in enumerate([*content["scores"]["iou"].items(), ("all classes", content["scores"]["miou"])]):
        of_boundary = [
            f["mean"] if name == "all classes" else f["classes"][name] for f in content["boundary_f"].values()
        ]
        assert shown[name] == ["absent" if v is None else f"{v:.4f}" for v in [iou, *of_boundary]], i
    by_scene = rows(folder / "all_scenes.csv")
    assert [(row["scene"], row["images"], row["pixels"]) for row in by_scene] == [
        (str(i), "2", "2048") for i in range(5)
    ]
    means = [float(row["accuracy"]) for row in rows(folder / "all_images.csv")]
    assert [float(row["accuracy"]) for row in by_scene] == pytest.approx(
        [sum(means[i : i + 2]) / 2 for i in range(0, 10, 2)]
    )
    assert content["scores"]["accuracy"] == pytest.approx(np.mean(means))


def test_a_test_split_is_scored_once(run: Run, tmp_path: Path) -> None:
    first = evaluate(run, Wish("test"))
    assert first.content["looks"] == 1 and first.notes == []
    path = run.folder / "evaluation" / "test.json"
    before = path.read_bytes()
    again = evaluate(run, Wish("test", out=tmp_path / "elsewhere"))
    assert again.content == first.content and path.read_bytes() == before and not (tmp_path / "elsewhere").exists()
    assert str(path) in again.notes[0] and "--again scores again" in again.notes[0]
    third = evaluate(run, Wish("test", again=True))
    assert third.content["looks"] == 2 and "scored 2 times" in third.notes[0]
    assert third.content["scores"] == first.content["scores"]
    best = evaluate(run, Wish("test", checkpoint="best"))
    same = run.best_checkpoint.read_bytes() == run.last_checkpoint.read_bytes()
    assert len(best.files) == (1 if same else 3)


def test_other_labels_of_the_same_images(run: Run, images: Path, tmp_path: Path) -> None:
    """Cells trained on noisy labels can be scored on clean ones."""
    clean = Path(shutil.copytree(images, tmp_path / "clean"))
    own = evaluate(run, Wish("val"))
    for path in (clean / "label").iterdir():
        Image.fromarray(3 - np.asarray(Image.open(path))).save(path)
    found = evaluate(run, Wish("val", root=clean))
    assert found.notes == ["other data than it was trained on: their files, names or scenes differ"]
    assert found.files[0].name == f"val_{found.content['data'][:8]}.json", "the score on its own data stays"
    names = [[row["name"] for row in rows(result.files[1])] for result in (own, found)]
    assert names[0] == names[1]
    assert found.content["scores"] != own.content["scores"]
    name = names[0][0]
    prediction, label = (
        np.asarray(Image.open(p)) for p in (run.records.maps / f"{name}.png", clean / "label" / f"{name}.png")
    )
    assert float(rows(found.files[1])[0]["accuracy"]) == (prediction == label).mean()
    (clean / "scenes.csv").unlink()
    assert "images that trained it may be among these" in evaluate(run, Wish("val", root=clean)).notes[1]


def test_counts_of_images_are_kept_and_found_by_their_data(run: Run, images: Path, tmp_path: Path) -> None:
    content = evaluate(run, Wish("val")).content
    kept, found = run.records.validation(), run.evaluations.counts("val", content["data"][:8])
    assert kept and found and (found.names, found.scenes) == (kept.names, kept.scenes)
    assert np.array_equal(found.confusion, kept.confusion)
    assert run.evaluations.counts("val", "0000") is None and run.evaluations.counts("test", content["data"]) is None
    assert run.evaluations.counts("val", content["data"], original=True) is None


def test_a_map_is_scored_on_labels_of_their_own_size(trained, images: Path, tmp_path: Path, seglab) -> None:
    (run,) = runs_of(trained("epochs=1", "loss=dice", "threads=1", "data.size=20"))
    found = evaluate(run, Wish("val", root=images, out=tmp_path, original=True))
    counts = Evaluations(tmp_path).counts("val", found.content["data"], original=True)
    assert found.files[0].name == "val_original.json" and found.content["original"] and counts
    for name, own in zip(counts.names, counts.confusion, strict=True):
        label = np.asarray(Image.open(images / "label" / f"{name}.png"))
        small = np.asarray(Image.open(run.records.maps / f"{name}.png"))
        height, width = label.shape
        across = [[small[int((y + 0.5) * 20 / height), int((x + 0.5) * 20 / width)] for x in range(width)]
                  for y in range(height)]  # fmt: skip
        expected = np.zeros((4, 4), np.int64)
        np.add.at(expected, (label.ravel(), np.ravel(across)), 1)
        assert np.array_equal(own, expected), name
    ended = seglab("evaluate", run.folder, "--original")
    assert (ended.code, ended.err) == (
        1,
        "seglab: --original reads the labels' files: accepted is --data ROOT beside it\n",
    )


def drawn(root: Path, height: int, width: int) -> Path:
    """Two drawn scenes."""
    for i in range(2):
        for folder, array in zip(("data", "label"), draw_scene(11, i, height, width), strict=True):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / folder / f"{i}.png")
    return root


def maps_of(run: Run, wish: Wish) -> tuple[list[np.ndarray], dict[str, float]]:
    """The maps that are scored, and the scores."""
    maps: list[np.ndarray] = []
    counts = Evaluator(run, wish).counts(lambda images, _: (maps.append(image[2]) or image for image in images))
    return maps, counts.total


def test_tiles_that_share_what_a_pixel_sees_score_as_whole_images(run: Run, tmp_path: Path) -> None:
    root = drawn(tmp_path / "scenes", 210, 300)
    whole, scores = maps_of(run, Wish("all", root))
    tiles, of_tiles = maps_of(run, Wish("all", root, tile=112))
    assert np.mean([(a == b).mean() for a, b in zip(whole, tiles, strict=True)]) > 1 - 1e-4, "ties may fall otherwise"
    assert of_tiles == pytest.approx(scores, abs=1e-3, nan_ok=True) and len(np.unique(whole)) > 1
    content = evaluate(run, Wish("all", root, tile=112)).content
    assert content["tile"] == 112 and content["scores"]["miou"] == of_tiles["miou"]


def test_what_pools_the_whole_image_scores_nearly_the_same_by_tiles(pooled: Run, tmp_path: Path) -> None:
    """docs/evaluate.md tells what was measured on a network that was trained for longer."""
    root = drawn(tmp_path / "scenes", 210, 300)
    whole, scores = maps_of(pooled, Wish("all", root))
    tiles, of_tiles = maps_of(pooled, Wish("all", root, tile=112))
    assert np.mean([(a == b).mean() for a, b in zip(whole, tiles, strict=True)]) > 0.85, "0.94 when this was written"
    assert abs(of_tiles["miou"] - scores["miou"]) < 0.05


def test_a_class_that_the_labels_lack_is_told(run: Run, images: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(images, tmp_path / "other"))
    for name in ("2", "3"):
        label = np.asarray(Image.open(other / "label" / f"{name}.png"))
        Image.fromarray(np.where(label == 3, 255, label).astype(np.uint8)).save(other / "label" / f"{name}.png")
    found = evaluate(run, Wish("test", root=other))
    assert found.notes[-1] == "No pixel of “water” among the test images: its IoU cannot be measured on them."
    assert found.content["pixels"] < 2 * 32 * 32
    for name in ("2", "3"):
        Image.fromarray(np.full((32, 32), 255, np.uint8)).save(other / "label" / f"{name}.png")
    with pytest.raises(ValueError, match="no pixel of the 2 labels has a class"):
        evaluate(run, Wish("test", root=other))


def test_what_can_not_be_scored_is_one_line(run: Run, seglab, images: Path, tmp_path: Path, monkeypatch) -> None:
    def said(*options: object) -> str:
        ended = seglab("evaluate", run.folder, *options)
        assert ended.code == 1 and ended.err.count("\n") == 1, ended
        return ended.err

    assert "no such folder" in said("--data", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "data/: no such folder" in said("--data", tmp_path / "empty")
    broken = Path(shutil.copytree(images, tmp_path / "broken"))
    for path in (broken / "label").iterdir():
        path.write_bytes(b"")
    assert "10 files (label/0.png, label/1.png, label/2.png, …): an empty file" in said("--data", broken)
    others = Path(shutil.copytree(images, tmp_path / "others"))
    (others / "scenes.csv").write_text("name,scene\n" + "".join(f"{i},{i % 5}0\n" for i in range(10)))
    assert "test_scenes ['1']: no such scene, accepted are" in said("--data", others)
    assert "not on this machine" in said("--device", "cuda")
    assert "accepted are multiples of 4" in said("--tile", 30)
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "no cache"))
    assert "accepted are --data ROOT, and another cache" in said()
    config = run.config()
    del config["data"]["test_scenes"]
    run.config_file.write_text(yaml.safe_dump(config))
    assert "keeps no test split" in said("--split", "test", "--data", images)
    run.results_file.unlink()
    assert "is not finished" in said("--split", "test", "--data", images)
