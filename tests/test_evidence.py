"""The records of a cell are those that it was scored by, however it came about."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from seglab.config.compose import config_of
from seglab.config.parts import build_data, build_model
from seglab.labels import VOID
from seglab.maps.evidence import confidence_histogram, probability_histogram, scored_batches
from seglab.maps.scoring import confusion_each
from seglab.run.folder import Run, runs_of
from seglab.run.records import RecordError, Records, evenly, mapped
from seglab.scores import CALIBRATION_BINS, PROBABILITY_BINS, confusion, scores
from tests.test_conf import composed
from tests.test_resume import cells


def assert_counts_are_the_score(run: Run) -> None:
    """The images' counts add up to the cell's own scores, and are those of its maps."""
    found, results = run.records.validation(), run.results()
    assert found is not None
    total = scores(found.confusion.sum(0), list(results["val"]["iou"]))
    assert total["miou"] == results["val"]["miou"] and total["accuracy"] == results["val"]["accuracy"]
    assert {k: total[f"iou/{k}"] for k in results["val"]["iou"]} == results["val"]["iou"]
    root = Path(run.config()["data"]["root"])
    for name, counts in zip(found.names, found.confusion, strict=True):
        label = np.asarray(Image.open(root / "label" / f"{name}.png"))
        prediction = run.records.map(name)
        assert prediction is not None and prediction.dtype == np.uint8
        assert (confusion(label, prediction, 4) == counts).all()


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_counts_of_a_shared_grid_add_up_to_the_scores(train, tmp_path: Path, precision: str) -> None:
    assert train("-m", "epochs=1,3", f"precision={precision}", "pr_curves=true")[0] == ""
    runs = list(runs_of(tmp_path / "default"))
    assert len(runs) == 2
    for run in runs:
        assert_counts_are_the_score(run)
        validation, calibration, curves = (
            run.records.validation(),
            run.records.calibration(),
            run.records.probabilities(),
        )
        assert validation is not None and calibration is not None and curves is not None
        pixels = validation.confusion.sum()
        assert calibration[:, 0].sum() == pixels
        assert calibration[:, 1].sum() == validation.confusion.sum(0).trace()
        assert (curves.sum((1, 2)) == pixels).all()
        assert (curves[:, :, 1].sum(1) == validation.confusion.sum((0, 2))).all()
        assert all(
            scene and int(name) // 2 == int(scene)
            for name, scene in zip(validation.names, validation.scenes, strict=True)
        )


def test_a_resumed_cell_leaves_the_same_bytes(train, trained, copied, tmp_path: Path) -> None:
    copied("epochs=1", out=tmp_path / "twice")
    assert train("epochs=3", f"output_dir={tmp_path}/twice")[0] == ""
    (once,) = cells(trained("epochs=3")).values()
    twice = cells(tmp_path / "twice" / "default")[once.folder.name]
    files = sorted(p.relative_to(once.folder) for p in once.folder.rglob("*") if p.suffix in (".png", ".csv"))
    assert {"validation.csv", "calibration.csv"} <= {p.name for p in files} and any(
        p.parent.name == "maps" for p in files
    )
    for path in files:
        if path.name != "times.csv":
            assert (once.folder / path).read_bytes() == (twice.folder / path).read_bytes(), path


def test_a_cell_killed_before_its_results_gets_its_evidence(train, copied) -> None:
    (run,) = cells(copied("epochs=2")).values()
    kept = run.records.validation_file.read_bytes()
    for path in (run.results_file, run.records.validation_file, *run.records.maps.iterdir()):
        path.unlink()
    assert train("epochs=2")[0] == ""
    assert run.records.validation_file.read_bytes() == kept
    assert_counts_are_the_score(run)


def test_counts_of_each_image_without_void() -> None:
    mask = torch.tensor([[[0, 1, VOID]], [[1, 1, 0]]], dtype=torch.uint8)
    prediction = torch.tensor([[[0, 0, 1]], [[1, 0, 0]]])
    assert confusion_each(prediction, mask, 2).tolist() == [[[1, 0], [1, 0]], [[1, 0], [1, 1]]]


def test_histograms_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(2, 3, 5, 4, generator=generator).softmax(1)
    p[0, :, 0, 0] = torch.tensor([0.0, 1.0, 0.0])  # both ends have a bin
    mask = torch.randint(0, 3, (2, 5, 4), generator=generator, dtype=torch.uint8)
    mask[1, 2] = VOID
    confidence, curve = np.zeros((CALIBRATION_BINS, 3)), np.zeros((3, PROBABILITY_BINS, 2), int)
    for b, y, x in np.ndindex(2, 5, 4):
        if (true := int(mask[b, y, x])) == VOID:
            continue
        at = p[b, :, y, x].tolist()
        best = int(np.argmax(at))
        confidence[min(int(at[best] * CALIBRATION_BINS), CALIBRATION_BINS - 1)] += [1, best == true, at[best]]
        for k in range(3):
            curve[k, min(int(at[k] * PROBABILITY_BINS), PROBABILITY_BINS - 1), int(k == true)] += 1
    assert np.allclose(confidence_histogram(p, p.max(1).indices, mask).numpy(), confidence)
    assert (probability_histogram(p, mask).numpy() == curve).all()


def test_maps_without_numbers_have_histograms() -> None:
    """A GPU may score a few batches after its last update before anybody asks whether the loss is a number."""
    p = torch.full((1, 3, 2, 2), torch.nan)
    mask = torch.zeros(1, 2, 2, dtype=torch.uint8)
    assert confidence_histogram(p, p.max(1).indices, mask)[0, 0] == 4
    assert probability_histogram(p, mask).sum() == 3 * 4


def test_one_of_several_processes_can_score_the_whole_split(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGLAB_CACHE", str(images.parent / "cache"))
    small = ("model=unet", "model.min_kernel_num=4", "model.depth=2", "data.val_fraction=0.4", "trainer=cpu")
    config = config_of(composed(*small, "data=folder", f"data.root={images}", "data.batch_size=2"))
    data = build_data(config)
    data.trainer = SimpleNamespace(global_rank=0, world_size=2)  # type: ignore[assignment]
    names = [data.cache.names[i] for i in data.indices[1]]
    assert [name for batch in data.val_dataloader()[0] for name in batch["name"]] == names[::2]
    scored = scored_batches(build_model(config), data, "32", torch.device("cpu"))
    assert [name for batch, _ in scored for name in batch["name"]] == names


def test_records_come_back_and_strange_ones_are_refused(tmp_path: Path) -> None:
    records = Records(tmp_path)
    assert records.validation() is None and records.calibration() is None and records.probabilities() is None
    rows = [('a "quoted", name', "s1", [1, 2, 3, 4]), ("b", "", [0, 0, 0, 9])]
    records.write_validation(["x, y", "z"], rows)
    found = records.validation()
    assert found is not None and found.names == ['a "quoted", name', "b"] and found.scenes == ["s1", ""]
    assert found.confusion.tolist() == [[[1, 2], [3, 4]], [[0, 0], [0, 9]]]
    for name in ("../../escape", "/etc/passwd", "a/b", "x\0y"):
        with pytest.raises(RecordError, match="no name of an image"):
            records.map(name)
    for text in (
        "",
        "name,scene,a\nx,y,-1\n",
        "name,scene,a\nx,y,nan\n",
        "name,scene,a,b\nx,y,1,1\n",
        "name,scene,a\nx,y\n",
    ):
        records.validation_file.write_text(text)
        with pytest.raises(RecordError, match=r"validation\.csv"):
            records.validation()
    records.maps.mkdir()
    (records.maps / "x.png").write_bytes(b"no picture")
    with pytest.raises(RecordError, match=r"x\.png"):
        records.map("x")


def test_which_maps_are_kept_by_hand() -> None:
    assert evenly(9, 3) == [0, 4, 8] and evenly(2, 5) == [0, 1] and evenly(5, 0) == []
    names = list("abcdefghi")
    assert mapped(names, None, 4) == mapped(names, 9, 4) == names
    assert mapped(names, 2, 3) == ["a", "e", "i"], "those that are drawn are kept, too"
    assert mapped(names, 0, 0) == [] and mapped(names, 1, 0) == ["a"]


def test_fewer_maps_change_nothing_else(train, tmp_path: Path) -> None:
    settings = ("epochs=1", "data.val_scenes=['1','2','3']", "pictures=1")
    said = [train(*settings, f"study={study}", f"maps={maps}")[1] for study, maps in (("all", "null"), ("few", "2"))]
    assert ["maps of 2 of these are kept, evenly spread (maps=2, pictures=" in text for text in said] == [False, True]
    every, few = (next(runs_of(tmp_path / study)) for study in ("all", "few"))
    assert every.folder.name == few.folder.name, "one identity"
    for name in ("validation.csv", "calibration.csv", "metrics.csv"):
        assert (every.folder / name).read_bytes() == (few.folder / name).read_bytes()
    kept = {path.stem: path.read_bytes() for path in every.records.maps.iterdir()}
    left = {path.stem: path.read_bytes() for path in few.records.maps.iterdir()}
    assert sorted(kept) == ["2", "3", "4", "5", "6", "7"] and left == {name: kept[name] for name in ("2", "7")}
