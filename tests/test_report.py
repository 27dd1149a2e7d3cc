"""Tables and pictures from files that a test writes by hand."""

import csv
from pathlib import Path

import numpy as np
import pytest

from seglab.labels import VOID
from seglab.pages.pictures import error_image, panel
from seglab.report import cells, grid_table, write_grid
from seglab.run.folder import Run
from tests.study import add_test_scores

CLASSES = {"ground": "#c8c8c8", "roof": "#d1495b"}


def add(study: Path, loss: str, epochs: int, miou: float | None, seed: int = 0, **more) -> Run:
    """A run folder with what a report reads."""
    names = {"model": more.pop("model", "unet"), "loss": loss, "data": "folder", "trainer": "auto"}
    settings = {"model": {"depth": more.pop("depth", 4)}, "loss": {"gamma": more.pop("gamma", 2)}, "data": {"size": 8}}
    run = Run(study / f"{names['model']}-{loss}-e{epochs}-s{seed}-{len(list(study.glob('*')))}")
    run.folder.mkdir(parents=True)
    run.start({"epochs": epochs, "seed": seed, "names": names, **settings}, {})
    val = {"miou": miou, "iou": {"ground": miou, "roof": None}}
    done = {"status": "done", "val": val, "majority_miou": 0.25}
    if miou is not None or more:
        run.write_results(more or done)
    return run


def test_losses_down_epochs_across(tmp_path: Path) -> None:
    for loss, epochs, miou in (("dice", 100, 0.5), ("dice", 20, 0.4), ("focal", 20, 0.3)):
        add(tmp_path, loss, epochs, miou)
    assert grid_table(cells(tmp_path)) == [
        ["loss", "20 epochs", "100 epochs"],
        ["dice", "0.4000", "0.5000"],
        ["focal", "0.3000", ""],
    ]


def test_seeds_are_averaged_and_what_is_missing_is_said(tmp_path: Path) -> None:
    for seed, miou in enumerate((0.2, 0.4)):
        add(tmp_path, "dice", 5, miou, seed)
    add(tmp_path, "dice", 5, None, 2, status="failed", reason="no space")
    assert grid_table(cells(tmp_path))[1] == ["dice", "0.3000 (n=2 of 3)"]
    assert "failed: dice, 5 epochs, seed 2 (unet-dice-e5-s2-2): no space" in write_grid(tmp_path)


def test_tables_and_rows_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    add(tmp_path, "dice", 5, 0.1, depth=3)
    add(tmp_path, "dice", 5, 0.2, depth=4)
    add(tmp_path, "focal", 5, 0.3, depth=4, gamma=1)
    add(tmp_path, "focal", 5, 0.4, depth=4, gamma=2)
    add(tmp_path, "focal", 5, 0.5, model="deeplabv3plus")
    found = {(c.table, c.loss): c.results["val"]["miou"] for c in cells(tmp_path)}
    assert found == {
        ("unet, folder, model.depth=3", "dice"): 0.1,
        ("unet, folder, model.depth=4", "dice"): 0.2,
        ("unet, folder, model.depth=4", "focal, loss.gamma=1"): 0.3,
        ("unet, folder, model.depth=4", "focal, loss.gamma=2"): 0.4,
        ("deeplabv3plus, folder", "focal, loss.gamma=2"): 0.5,
    }


def test_the_same_as_csv_with_absent_classes_empty(tmp_path: Path) -> None:
    add(tmp_path, "dice", 5, 0.5)
    add(tmp_path, "dice", 6, None)
    write_grid(tmp_path)
    first, second = csv.DictReader((tmp_path / "grid.csv").read_text().splitlines())
    assert (first["miou"], first["iou.ground"], first["iou.roof"], first["status"]) == ("0.5", "0.5", "", "done")
    assert (second["miou"], second["status"]) == ("", "interrupted")


def test_scores_of_the_test_split_have_columns_of_their_own(tmp_path: Path) -> None:
    add_test_scores(add(tmp_path, "dice", 20, 0.4), 0.9)
    for seed, miou in enumerate((0.5, 0.7)):
        add_test_scores(add(tmp_path, "dice", 50, 0.5, seed), miou, looks=1 + 2 * seed)
    add(tmp_path, "focal", 50, 0.3)
    add(tmp_path, "focal", 100, 0.3)
    add_test_scores(add(tmp_path, "lovasz", 50, 0.2), 1.0, data="of other images")
    assert grid_table(cells(tmp_path)) == [
        ["loss", "20 epochs", "20 epochs, test", "50 epochs", "50 epochs, test", "100 epochs"],
        ["dice", "0.4000", "0.9000", "0.5000 (n=2 of 2)", "0.6000 (n=2 of 2)", ""],
        ["focal", "", "", "0.3000", "", "0.3000"],
        ["lovasz", "", "", "0.2000", "", ""],
    ]
    said = write_grid(tmp_path)
    assert "unet-dice-e50-s1-2: its test split was scored 3 times, which biases what is chosen by it" in said
    rows = list(csv.DictReader((tmp_path / "grid.csv").read_text().splitlines()))
    first = next(row for row in rows if row["epochs"] == "20")
    assert {k: v for k, v in first.items() if k.startswith("test.")} == {
        **{"test.miou": "0.9", "test.iou.ground": "0.9", "test.iou.roof": ""},
        **{"test.boundary_f_1px": "0.25", "test.boundary_f_1px.ground": "0.25", "test.boundary_f_1px.roof": ""},
    }
    assert [row["test.miou"] for row in rows if row["loss"] != "dice"] == ["", "", ""]


def test_a_folder_without_runs(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="accepted is a folder such as outputs/default"):
        write_grid(tmp_path)


def test_errors_are_red_and_void_is_black() -> None:
    mask, prediction = np.array([[0, 1, VOID]], np.uint8), np.array([[0, 0, 1]], np.uint8)
    assert error_image(mask, prediction).tolist() == [[[235, 235, 235], [214, 39, 40], [0, 0, 0]]]


@pytest.mark.parametrize("size", [(8, 8), (300, 500), (1, 1)])
def test_a_panel_holds_the_image_as_it_is(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    mask = rng.choice([0, 1, VOID], size).astype(np.uint8)
    sheet = np.asarray(panel(image, mask, mask, CLASSES))
    scale = -(-224 // size[1])
    shown = sheet[22 : 22 + scale * size[0], : scale * size[1]]
    assert (shown[::scale, ::scale] == image).all()


def test_rows_of_metrics_come_back(tmp_path: Path) -> None:
    run = add(tmp_path, "dice", 3, 0.5)
    for epoch, miou in ((1, 0.3), (2, 0.7), (3, 0.7)):
        row = {"epoch": epoch, "val/miou": miou, "val/iou/roof": float("nan")}
        run.add_epoch(row, {"epoch": epoch, "seconds": 1.5})
    run.add_epoch(row | {"val/miou": 0.6}, {"epoch": 3, "seconds": 2.0})
    assert [row["val/miou"] for row in run.metrics()] == [0.3, 0.7, 0.6]
    assert run.metrics()[0]["val/iou/roof"] != run.metrics()[0]["val/iou/roof"]
    assert run.times()[-1] == {"epoch": 3, "seconds": 2.0}
    assert run.best(3) == {"epoch": 2, "miou": 0.7} and run.best(1)["epoch"] == 1 and run.best(0)["epoch"] == 0
