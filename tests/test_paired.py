"""Cells along one setting, paired by image and seed, and folds as one."""

from pathlib import Path

import numpy as np
import pytest

from seglab.report.page import write_report
from seglab.report.paired.along import NOT_DISTINGUISHABLE, TOO_FEW, Contrast, along
from seglab.report.paired.folds import pooled
from seglab.report.paired.outcomes import Outcome, Scored, outcomes_of
from seglab.report.tables import write_grid
from seglab.scores import miou
from tests.study import add_cell, draw_labels, spoil

SCENES = [f"s{i}" for i in range(20)]
LABELS = draw_labels(20)
NAMES = [f"{i:02}" for i in range(20)]


def add(study: Path, share: float, seed: int = 0, loss: str = "dice", labels: np.ndarray = LABELS, **changes) -> None:
    """A cell whose maps are wrong on a share of the pixels, with settings such as model__batch_norm=False."""
    settings = {key.replace("__", "."): value for key, value in changes.items()}
    maps = spoil(labels, share, seed + 10 * len(list(study.glob("*"))))
    add_cell(study, loss, 5, labels, maps, seed, SCENES[: len(labels)], changes=settings, content="c")


def found_in(*studies: Path) -> list[Outcome]:
    return outcomes_of(studies, Scored())[0]


def contrasts(study: Path, key: str) -> list[Contrast]:
    return along(found_in(study), key)


def test_a_planted_difference_is_found_and_chance_is_not(tmp_path: Path) -> None:
    for seed in range(3):
        add(tmp_path, 0.1, seed, model__batch_norm=True)
        add(tmp_path, 0.3, seed, model__batch_norm=False)
        add(tmp_path, 0.2, seed, "focal", model__batch_norm=True)
        add(tmp_path, 0.2, seed, "focal", model__batch_norm=False)
    dice, focal = contrasts(tmp_path, "model.batch_norm")
    assert (dice.first, dice.second, dice.place) == ("false", "true", {"loss": "dice", "epochs": "5"})
    assert dice.verdict == "true is better" and focal.verdict == NOT_DISTINGUISHABLE
    assert dice.seeds == 3 and dice.units == "20 validation images"
    scores = {value: [o.miou for o in found_in(tmp_path) if o.settings["loss"] == "dice"
                      and o.settings["model.batch_norm"] == value] for value in ("true", "false")}  # fmt: skip
    assert dice.difference
    assert dice.difference.value == pytest.approx(np.mean(scores["true"]) - np.mean(scores["false"]))
    assert [m.value for m in dice.scores] == pytest.approx([np.mean(scores["false"]), np.mean(scores["true"])])
    assert dice.adjusted == pytest.approx(2 * dice.difference.p), "Holm's correction for two contrasts"


def test_one_class_is_compared_by_its_own_score(tmp_path: Path) -> None:
    worse = np.where(LABELS == 2, 1, LABELS).astype(np.uint8)  # no tree is found
    for value, maps in ((True, LABELS), (False, worse)):
        add_cell(tmp_path, "dice", 5, LABELS, maps, scenes=SCENES, content="c", changes={"model.batch_norm": value})
    (tree,) = along(found_in(tmp_path), "model.batch_norm", "iou/tree")
    assert [m.value for m in tree.scores] == [0, 1] and tree.verdict == "true is better"
    (ground,) = along(found_in(tmp_path), "model.batch_norm", "iou/ground")
    assert ground.difference and ground.difference.value == 0 and ground.verdict == NOT_DISTINGUISHABLE
    with pytest.raises(ValueError, match=r"^score iou/lake: accepted are miou, dice, accuracy, iou/ground, iou/roof"):
        along(found_in(tmp_path), "model.batch_norm", "iou/lake")


def test_each_two_values_are_compared_in_the_order_of_numbers(tmp_path: Path) -> None:
    for size, share in ((64, 0.3), (224, 0.2), (None, 0.1)):
        add(tmp_path, share, data__size=size)
    assert [(c.first, c.second) for c in contrasts(tmp_path, "data.size")] == [
        ("null", "64"),
        ("null", "224"),
        ("64", "224"),
    ]


def test_only_cells_that_are_equal_in_all_else_are_compared(tmp_path: Path) -> None:
    add(tmp_path, 0.1, model__batch_norm=True, optimizer__lr=0.1)
    add(tmp_path, 0.3, model__batch_norm=False, optimizer__lr=0.2)
    with pytest.raises(ValueError, match=r"no two cells differ in it alone; they also differ in optimizer\.lr$"):
        contrasts(tmp_path, "model.batch_norm")
    add(tmp_path, 0.3, model__batch_norm=False, optimizer__lr=0.1)
    (only,) = contrasts(tmp_path, "model.batch_norm")
    assert only.place == {"loss": "dice", "epochs": "5", "optimizer.lr": "0.1"}


def test_settings_that_change_together_count_as_one(tmp_path: Path) -> None:
    add(tmp_path, 0.1, data__size=64, data__crop=None)
    add(tmp_path, 0.4, data__size=None, data__crop=64)
    (only,) = contrasts(tmp_path, "data.size,data.crop")
    assert (only.first, only.second, only.verdict) == ("64, null", "null, 64", "64, null is better")
    with pytest.raises(ValueError, match=r"--along data\.size,x: no setting of these cells is x; did|accepted"):
        contrasts(tmp_path, "data.size,x")


def test_settings_that_nothing_differs_in_are_one_line(tmp_path: Path) -> None:
    add(tmp_path, 0.1, model__batch_norm=True)
    with pytest.raises(
        ValueError, match=r"^--along model\.depth: 1 finished cell is left to compare; accepted are two"
    ):
        contrasts(tmp_path, "model.depth")
    add(tmp_path, 0.1, seed=1, model__batch_norm=True)
    for key, why in (("seed", "cells are paired by it"), ("data.fold", "folds are pooled")):
        with pytest.raises(ValueError, match=f"^--along {key}: {why}; accepted is another setting"):
            contrasts(tmp_path, key)
    with pytest.raises(ValueError, match=r"^--along model\.depth: all cells have the same model\.depth$"):
        contrasts(tmp_path, "model.depth")
    add(tmp_path, 0.1, model__batch_norm=False)
    with pytest.raises(
        ValueError, match=r"^--along model\.batchnorm: no setting of these cells is model\.batchnorm; did you "
    ):
        contrasts(tmp_path, "model.batchnorm")


def test_other_labels_or_images_are_refused(tmp_path: Path) -> None:
    add(tmp_path, 0.1, data__size=64)
    add(tmp_path, 0.1, data__size=32, labels=draw_labels(20, seed=1))
    with pytest.raises(ValueError, match="64 were scored on other labels of the same images; accepted are --original"):
        contrasts(tmp_path, "data.size")
    other = tmp_path / "other"
    add(other, 0.1, data__size=64)
    add(other, 0.1, data__size=32, labels=draw_labels(19))
    with pytest.raises(ValueError, match="were validated on other images"):
        contrasts(other, "data.size")


def test_few_images_are_not_enough_evidence(tmp_path: Path) -> None:
    for value, share in ((True, 0.0), (False, 0.5)):
        add(tmp_path, share, labels=draw_labels(9), model__batch_norm=value)
    (only,) = contrasts(tmp_path, "model.batch_norm")
    assert only.verdict == TOO_FEW and only.difference is None


def test_two_studies_are_compared_along_what_they_differ_in(tmp_path: Path) -> None:
    add(tmp_path / "a", 0.1, model__depth=2)
    add(tmp_path / "b", 0.4, model__depth=3)
    (only,) = along(found_in(tmp_path / "a", tmp_path / "b"), "model.depth")
    assert only.verdict == "2 is better"


def test_drawn_data_are_told_by_their_settings(tmp_path: Path) -> None:
    for i, noise in enumerate((0.0, 0.5)):
        root = {"_target_": "seglab.data.synthetic.ensure_scenes", "cache_dir": f"x{i}", "label_noise": noise}
        add(tmp_path, 0.1 + noise, data__root=root)
    (only,) = contrasts(tmp_path, "data.root.label_noise")
    assert (only.first, only.second, only.place) == ("0.0", "0.5", {"loss": "dice", "epochs": "5"})


def fold(study: Path, part: int, share: float, seed: int = 0) -> None:
    own = slice(10 * part, 10 * part + 10)
    names = [f"{i:02}" for i in range(20)][own]
    settings = {"data.fold": part, "data.folds": 2, "data.size": round(100 * share)}
    maps = spoil(LABELS[own], share, part)
    add_cell(study, "dice", 5, LABELS[own], maps, seed, SCENES[own], names=names, content="c", changes=settings)


def test_folds_are_pooled_by_their_counts(tmp_path: Path) -> None:
    for part in (1, 0):
        fold(tmp_path, part, 0.1)
        fold(tmp_path, part, 0.3)
    fold(tmp_path, 0, 0.1, seed=1)
    single = found_in(tmp_path)
    found, lacking = pooled(single)
    assert lacking == ["dice, 5 epochs, seed 1: not pooled, fold 1 has no result"]
    assert [(o.settings["data.fold"], o.counts.names) for o in found] == [("all 2", [f"{i:02}" for i in range(20)])] * 2
    total = sum(o.counts.confusion.sum(0) for o in single if o.settings["data.size"] == "10" and o.seed == 0)
    assert found[0].miou == float(miou(total))
    (only,) = along(found, "data.size")
    assert only.verdict == "10 is better" and only.units == "20 validation images"


def test_the_grid_and_the_report_have_a_table_of_all_folds(tmp_path: Path) -> None:
    for part in (0, 1):
        for seed in (0, 1):
            fold(tmp_path, part, 0.1, seed)
        fold(tmp_path, part, 0.3)
    pooled_scores = [o.miou for o in pooled(found_in(tmp_path))[0] if o.settings["data.size"] == "10"]
    grid = write_grid(tmp_path)
    assert "## unet, folder, all 2 folds, data.size=10\n\nvalidation mIoU of the counts of all folds" in grid
    assert f"{np.mean(pooled_scores):.4f} (n=2 of 2)" in grid
    page = write_report(tmp_path).read_text()
    assert "Folds pooled</h2>" in page and "dice, 5 epochs is the only cell with a score: validation mIoU" in page


def test_the_command_prints_a_table_and_what_is_left_out(tmp_path: Path, seglab) -> None:
    for value, share in ((True, 0.1), (False, 0.4)):
        add(tmp_path, share, model__batch_norm=value)
    add_cell(tmp_path, "focal", 5, LABELS, None)
    ended = seglab("compare", tmp_path, "--along", "model.batch_norm")
    assert ended.code == 0 and ended.err == ""
    head, _, row, _, said = ended.out.splitlines()
    assert [cell.strip() for cell in head.split("|")[1:5]] == ["loss", "epochs", "model.batch_norm", "mIoU"]
    assert row.split("|")[-2].strip() == "true is better" and "< 0.001" in row
    assert said.startswith("Judged by a paired bootstrap over 20 validation images, at 5%")
    ended = seglab("compare", tmp_path, "--along", "model.batch_norm", "--original")
    assert (
        ended.code == 1
        and "left out, it has no counts of its val images, on labels of their own size; seglab evaluate RUN"
        in ended.err
    )


def test_folds_that_are_no_parts_of_one_whole_are_not_pooled_and_cost_no_grid(tmp_path: Path, seglab) -> None:
    def told(study: str, *changes: dict, names: list[str] | None = None, classes: dict | None = None) -> str:
        for part, change in enumerate(changes):
            own = slice(10 * part, 10 * part + 10)
            settings = {"data.fold": part, "data.folds": 2} | change
            run = add_cell(tmp_path / study, "dice", 5, LABELS[own], LABELS[own], names=names or NAMES[own],
                           changes=settings, content="c")  # fmt: skip
        if classes:
            run.records.write_validation(list(classes), [(f"x{i}", "", [1, 0, 0, 1]) for i in range(10)])
        ended = seglab("grid", tmp_path / study)
        assert ended.code == 0 and "all 2 folds" not in ended.out
        return ended.out.splitlines()[-1].partition("not pooled, ")[2]

    assert told("a", {}, {}, names=NAMES[:10]) == "10 image(s), as 00, are in two folds"
    assert told("b", {}, {}, classes={"a": "", "b": ""}) == "fold 1 has no result"
    for i, folds in enumerate((None, "x", 0, -1, [2], 10**12)):
        assert "is no number of folds" in told(f"c{i}", {"data.folds": folds}, {"data.folds": folds})
    assert told("d", {"data.folds": 10**6}) == "fold 1, 2, 3, ... has no result"
    assert told("e", {}, {"data.fold": -1}) == "data.fold=-1: accepted are 0..1"


def test_settings_from_anybody_stay_in_their_field_of_the_table(tmp_path: Path, seglab) -> None:
    for share, value in ((0.1, "a|b\n## x\x1b[31m"), (0.4, "c")):
        add(tmp_path, share, model__batch_norm=value)
    ended = seglab("compare", tmp_path, "--along", "model.batch_norm")
    assert ended.code == 0 and len(ended.out.splitlines()) == 5
    assert r"a\|b\n## x\x1b[31m" in ended.out


def test_what_can_not_be_compared_is_one_line(tmp_path: Path, seglab) -> None:
    add_cell(tmp_path / "a", "dice", 5, LABELS, None)
    assert "no finished cell is left to compare" in seglab("compare", tmp_path / "a", "--along", "loss").err
    for text in ("*", "../x", "["):
        assert "accepted is a hash" in seglab("compare", tmp_path / "a", "--along", "loss", "--content", text).err
    add(tmp_path / "b", 0.1, model__depth=2)
    add(tmp_path / "b", 0.1, model__depth=3)
    run = found_in(tmp_path / "b")[0].cell.run
    run.records.write_validation(["a", "b"], [(name, "", [1, 0, 0, 1]) for name in NAMES])
    ended = seglab("compare", tmp_path / "b", "--along", "model.depth", "--score", "iou/tree")
    assert ended.code == 1 and "left out, its counts have 2 classes, its config 3" in ended.err
