"""Notebooks show finished cells as they are."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from seglab.predict.predict import load_network
from seglab.report import figures
from seglab.report.comparison import Comparison, Group, Rival, compare
from seglab.report.inspection import Inspection, find_cells, find_study, main_table, most_different
from seglab.report.statistics import Difference
from seglab.report.study import read_study
from seglab.run.folder import Run, runs_of
from tests.test_metrics import counted_iou


@pytest.fixture(autouse=True)
def decoded(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of the study's own training."""
    monkeypatch.setenv("SEGLAB_CACHE", str(images.parent / "cache"))


@pytest.fixture(scope="module")
def inspection(study: Path) -> Inspection:
    (entry,) = find_cells(study, ["dice-e2"])
    return Inspection(entry)


def test_a_sample_is_the_image_and_what_the_network_says(inspection: Inspection, images: Path) -> None:
    for name in inspection.validation.names:
        sample = inspection.sample(name)
        with Image.open(images / "data" / f"{name}.png") as image, Image.open(images / "label" / f"{name}.png") as mask:
            assert (sample.image == np.asarray(image)).all() and (sample.mask == np.asarray(mask)).all()
        logits = load_network(inspection.run)(torch.from_numpy(sample.image.copy()).permute(2, 0, 1)[None].float())
        p, best = logits.softmax(1)[0].max(0)
        assert (sample.prediction == best.numpy()).all()
        assert sample.confidence == pytest.approx(p.detach().numpy())


def test_iou_of_each_image_and_the_worst_first(inspection: Inspection) -> None:
    names, means = inspection.validation.names, []
    for name, row in zip(names, inspection.iou(), strict=True):
        sample = inspection.sample(name)
        each = [counted_iou(sample.prediction, sample.mask, k) for k in range(4)]
        assert row == pytest.approx(each, nan_ok=True)
        means.append(np.nanmean(each))
    assert inspection.worst() == [names[i] for i in np.argsort(means)]


def test_images_on_which_two_cells_differ_most(inspection: Inspection, study: Path) -> None:
    other = Inspection(find_cells(study, ["cross_entropy-e1"])[0])
    gaps = [abs(np.nanmean(a) - np.nanmean(b)) for a, b in zip(inspection.iou(), other.iou(), strict=True)]
    names = inspection.validation.names
    assert most_different(inspection, other) == [names[i] for i in np.argsort(gaps)[::-1]]


def test_cells_are_found_by_a_part_of_their_name(study: Path) -> None:
    scores = {run.results()["val"]["miou"]: run for run in runs_of(study) if run.done}
    best, other = find_cells(study)
    assert best.run.folder == scores[max(scores)].folder
    assert other.cell.loss != best.cell.loss
    assert [e.cell.folder.split("-s0")[0] for e in find_cells(study, ["dice-e2", "dice-e1"])] == [
        *("unet-dice-e2", "unet-dice-e1"),
    ]
    for part, count in (("dice", 2), ("focal", 0)):
        with pytest.raises(
            ValueError, match=rf"'{part}' is in {count} names of cells; accepted is a part of one of unet-"
        ):
            find_cells(study, [part])


def test_a_study_is_found_from_the_folder_above(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study.parent)
    assert find_study(study) == study
    assert find_study("default") == find_study("../default") == Path("default")
    with pytest.raises(
        FileNotFoundError, match=r"../nowhere: no such folder; accepted is a study such as .* `make demo`"
    ):
        find_study("../nowhere")
    (study.parent / "empty").mkdir()
    for lookup in (main_table, find_cells):
        with pytest.raises((FileNotFoundError, ValueError), match="empty: no "):
            lookup(study.parent / "empty")


def test_images_come_from_the_cache_or_from_the_root_given(
    inspection: Inspection, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "outputs" / "default" / inspection.run.folder.name)
    shutil.copytree(inspection.run.folder, run.folder)
    config = run.config()
    config["data"]["root"] = "nowhere"
    run.config_file.write_text(yaml.safe_dump(config))
    (entry,) = find_cells(run.folder.parent)
    name = inspection.validation.names[0]
    assert (Inspection(entry).sample(name).image == inspection.sample(name).image).all()
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "empty"))
    assert (Inspection(entry, images).sample(name).image == inspection.sample(name).image).all()
    with pytest.raises(
        ValueError,
        match=r"is not at hand \(.*empty holds no decoded copy of its data; accepted are --data ROOT.*\)",
    ):
        Inspection(entry).sample(name)


def test_a_map_that_was_not_kept_is_made_again(inspection: Inspection, tmp_path: Path) -> None:
    folder = tmp_path / "default" / inspection.run.folder.name
    shutil.copytree(inspection.run.folder, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text()) | {"maps": 1, "pictures": 0}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    first, *others = inspection.validation.names
    for name in others:
        (folder / "maps" / f"{name}.png").unlink()
    (entry,) = find_cells(folder.parent)
    for name in (first, *others):
        assert (Inspection(entry).sample(name).prediction == inspection.sample(name).prediction).all()


def test_what_is_not_there_is_said(inspection: Inspection, study: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'no' is no validation image; accepted are 8, 9"):
        inspection.sample("no")
    (failed,) = (e for table in read_study(study) for e in table.entries if not e.done)
    with pytest.raises(ValueError, match=r"focal-e2.*: failed, so has no maps"):
        Inspection(failed)
    folder = tmp_path / "default" / inspection.run.folder.name
    shutil.copytree(inspection.run.folder, folder)
    shutil.rmtree(folder / "maps")
    with pytest.raises(ValueError, match="8: its map is gone from"):
        Inspection(find_cells(tmp_path / "default")[0]).sample("8")
    (folder / "validation.csv").unlink()
    with pytest.raises(ValueError, match=r"no validation\.csv"):
        Inspection(find_cells(tmp_path / "default")[0])


def texts(figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_the_grid_shows_scores_and_why_there_is_none(study: Path) -> None:
    whole = [e for table in read_study(study) for e in table.entries]
    table = main_table(study)
    table.entries = whole
    want = {f"{e.miou:.3f}" if e.done else "failed" for e in whole}
    assert set(texts(figures.grid(table, compare(table)))) - {""} == want


def test_intervals_are_drawn_where_they_are() -> None:
    rivals = [Rival(Group("focal", 5, []), Difference(0.1, 0.05, 0.15, 0.01, 0.02), 0.01)]
    rivals += [Rival(Group("dice", 5, []), Difference(0.01, -0.02, 0.04, 0.4, 0.02), 0.4)]
    comparison = Comparison([], Group("lovasz", 5, []), rivals, 20, "image", "words", [])
    (ax,) = figures.differences(comparison).axes
    low, point, _, tie, _ = ax.lines
    assert list(low.get_xdata()) == [0.05, 0.15] and list(point.get_xdata()) == [0.1]
    assert point.get_markerfacecolor() != "white" and tie.get_markerfacecolor() == "white"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["focal, 5 epochs", "dice, 5 epochs"]
    assert texts(figures.differences(Comparison([], None, [], 0, "image", "No cell yet.", []))) == ["No cell yet."]


def test_curves_hold_the_rows_of_the_longest_cells(study: Path) -> None:
    table = main_table(study)
    ax = figures.curves(table).axes[0]
    drawn = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
    longest = [e for e in table.entries if e.cell.epochs == 2 and e.done]
    assert drawn == {e.cell.loss: [row["val/miou"] for row in e.metrics] for e in longest}
