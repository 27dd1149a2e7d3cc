"""The audit finds every planted fault of a spoilt set, and what train.py would say of it."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab import cli
from seglab.audit.audit import Audit, audit
from seglab.audit.output import write_audit
from seglab.audit.overlaps import SAME_PIXELS
from seglab.audit.survey import forgiving_map
from seglab.audit.tables import image_rows, overlap_rows
from seglab.data.synthetic import draw_scene
from tests.browser import DESKTOP, PHONE, Browser

SIZE, SHIFT = 128, (37, -22)
HOSTILE = "<img src=x onerror=alert(1)>"


def save(root: Path, name: str, image: np.ndarray, label: np.ndarray, **how: int) -> None:
    for folder, array in (("data", image), ("label", label)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        suffix = "jpg" if how and folder == "data" else "png"
        Image.fromarray(array).save(root / folder / f"{name}.{suffix}", **(how if folder == "data" else {}))


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawn scenes and: an exact copy, a recompressed one, a second cut of scene 2 with another labelling, label 7,
    a size that differs, a file that is no image, an image without label.
    """
    root = tmp_path_factory.mktemp("spoilt")
    for i in range(6):
        save(root, f"s{i}", *draw_scene(7, i, SIZE, SIZE))
    image, label = draw_scene(7, 9, 2 * SIZE, 2 * SIZE)
    x, y = SHIFT
    save(root, "cut", image[60 : 60 + SIZE, 50 : 50 + SIZE], label[60 : 60 + SIZE, 50 : 50 + SIZE])
    other = np.roll(label, 2, 1)
    noise = np.random.default_rng(0).normal(0, 3, image.shape)
    hazy = np.clip(0.8 * image + 30 + noise, 0, 255).astype(np.uint8)
    save(root, "cut2", hazy[60 - y :, 50 - x :][:SIZE, :SIZE], other[60 - y :, 50 - x :][:SIZE, :SIZE])
    save(root, "copy", *draw_scene(7, 0, SIZE, SIZE))
    save(root, "again", *draw_scene(7, 1, SIZE, SIZE), quality=50)
    for folder, value in (("label", 7), ("data", 0)):
        path = next((root / folder).glob("s5.*" if folder == "label" else "s4.*"))
        array = np.array(Image.open(path))
        array[:2, :3] = value
        Image.fromarray(array if folder == "label" else array[:-1]).save(path)
    (root / "data" / "s3.png").write_text("no picture")
    Image.new("RGB", (SIZE, SIZE)).save(root / "data" / "lonely.png")
    rows = [f"s{i},{i}" for i in range(6)] + ["cut,a", "cut2,b", "copy,0", "again,c"]
    (root / "scenes.csv").write_text("name,scene\n" + "\n".join(rows))
    return root


@pytest.fixture(scope="module")
def found(spoilt: Path) -> Audit:
    return audit([f"data.root={spoilt}", "data.val_scenes=[c,b]", '+data.classes.road="#ffffff"'])


def test_every_fault_is_reported_and_the_rest_is_read(found: Audit) -> None:
    assert set(found.faults) == {
        "data/lonely.png: there is no label/lonely.*",
        "data/s3.png: not a readable image",
        f"data/s4.png: the image is {SIZE}x{SIZE - 1}, its label {SIZE}x{SIZE}",
        "label/s5.png: label values 7: accepted are 0..4 and 255 (void)",
        "images of 2 sizes can't be batched: set data.size or data.crop",
    }
    records = {record.pair.name: record for record in found.records}
    assert records["s5"].wrong == {"7": 6} and records["s5"].void == 6
    assert records["s5"].counts.sum() == SIZE * SIZE - 6
    assert records["s3"].counts.sum() == SIZE * SIZE and records["s3"].size is None  # its label can be read
    assert records["s4"].counts is None and records["s4"].size == (SIZE, SIZE - 1)


def test_copies_and_shared_ground_and_whether_they_leak(found: Audit) -> None:
    names = [record.pair.name for record in found.records]
    assert {(names[d.a], names[d.b], d.identical) for d in found.duplicates} == {
        ("again", "s1", False),
        ("copy", "s0", True),
    }
    (cut,) = [o for o in found.overlaps if {names[o.a], names[o.b]} == {"cut", "cut2"}]
    assert (cut.kind, cut.dx, cut.dy) == (SAME_PIXELS, *SHIFT)
    assert (cut.width, cut.height) == (SIZE - abs(SHIFT[0]), SIZE - abs(SHIFT[1]))
    assert len(found.overlaps) == 3  # the two copies are the others
    leaks = {row["a"] + " " + row["b"] for row in overlap_rows(found) if row["leaks"]}
    assert leaks == {"cut cut2", "again s1"}
    assert any("The split leaks: 2 pairs" in f.text and f.level == "bad" for f in found.findings)
    rows = {row["name"]: row for row in image_rows(found)}
    assert (rows["cut"]["overlaps"], rows["cut"]["leaks"], rows["s2"]["leaks"]) == ("cut2", 1, 0)


def test_the_ceiling_is_the_agreement_of_two_labellings(found: Audit) -> None:
    _, label = draw_scene(7, 9, 2 * SIZE, 2 * SIZE)
    x, y = 50 + max(0, -SHIFT[0]), 60 + max(0, -SHIFT[1])
    height, width = SIZE - abs(SHIFT[1]), SIZE - abs(SHIFT[0])
    one, two = (m[y : y + height, x : x + width] for m in (label, np.roll(label, 2, 1)))
    both = {
        k: ((one == k) & (two == k)).sum() / ((one == k) | (two == k)).sum() for k in np.unique([one, two]).tolist()
    }
    got = found.ceiling
    assert got["pixels"] == one.size and got["agreement"] == pytest.approx((one == two).mean())
    iou = dict(enumerate(got["iou"].values()))
    assert {k: v for k, v in iou.items() if v is not None} == pytest.approx(both)
    assert got["miou"] == pytest.approx(np.mean(list(both.values())))
    assert [place["images"] for place in got["places"]] == [
        ["cut", "cut2"]
    ]  # copies of one labelling are no second one


def test_missing_classes_of_all_and_of_one_side_and_one_that_dwarfs(found: Audit, tmp_path: Path) -> None:
    assert "No pixel of “road”: a network cannot learn it from these labels." in [f.text for f in found.findings]
    for i in range(4):
        label = np.full((40 - 20 * (i % 2), 40), i % 2, np.uint8)
        save(tmp_path, str(i), np.random.default_rng(i).integers(0, 256, (*label.shape, 3)).astype(np.uint8), label)
    found = audit([f"data.root={tmp_path}", "data.val_scenes=['1','3']"])
    texts = [f.text for f in found.findings]
    assert "No pixel of “vegetation” or of “water”: a network cannot learn it from these labels." in texts
    assert "No pixel of “building” among the training images: it cannot be learnt from this split." in texts
    assert "No pixel of “background” among the validation images: its IoU cannot be measured on this split." in texts
    (dwarfs,) = [text for text in texts if "dwarfs" in text]
    assert "“background” dwarfs the rest: it covers 66.7% of the labelled pixels, 2.0 times as much as “b" in dwarfs
    assert "mIoU of 0.333" in dwarfs
    assert found.ceiling["miou"] is None and found.ceiling["pixels"] == 0


def test_the_test_split_is_a_third_side(tmp_path: Path) -> None:
    for name, scene in {"a": 0, "b": 1, "c": 2, "copy": 0, "twin": 1}.items():
        save(tmp_path, name, *draw_scene(7, scene, SIZE, SIZE))
    found = audit([f"data.root={tmp_path}", "data.val_scenes=[b]", "data.test_scenes=[copy,twin]"])
    assert [r.side for r in found.records] == ["train", "val", "train", "test", "test"]
    (leaks,) = [f.text for f in found.findings if "leaks" in f.text]
    assert "The split leaks: 2 pairs of images show the same on two sides, for example a (train) and copy (t" in leaks
    assert "0.0% of the validation pixels lie on ground that also trains, and 100.0% of the test pixels on g" in leaks
    assert {row["a"]: row["leaks"] for row in overlap_rows(found)} == {"a": 1, "b": 1}
    page = write_audit(found, tmp_path / "out").read_text()
    assert "<b>2 / 1 / 2</b>" in page and "100.0% of the test pixels are affected" in page


def test_images_that_train_scenes_leave_out_are_on_no_side(tmp_path: Path) -> None:
    for name, scene in {"a": 0, "b": 1, "c": 2, "copy": 1}.items():
        save(tmp_path, name, *draw_scene(7, scene, SIZE, SIZE))
    found = audit([f"data.root={tmp_path}", "data.val_scenes=[b]", "data.train_scenes=[a,c]"])
    assert [r.side for r in found.records] == ["train", "val", "train", "unused"]
    assert not [f.text for f in found.findings if "leaks" in f.text], "a copy that is not trained on leaks nothing"
    assert "2 / 1</b><span>train / validate, 1 unused" in write_audit(found, tmp_path / "out").read_text()


def test_colours_that_are_no_class_are_listed() -> None:
    label = np.zeros((2, 3, 3), np.uint8)
    label[0] = (60, 16, 152)
    label[1, 0] = (1, 2, 3)
    mask, wrong = forgiving_map(
        label, {"#3c1098": "building", "#000000": "void"}, {"land": "#000000", "building": "#ffffff"}
    )
    assert mask.tolist() == [[1, 1, 1], [255, 255, 255]] and wrong == {"#010203": 1}
    mask, wrong = forgiving_map(label, None, {"land": "#000000", "building": "#ffffff"})
    assert wrong == {"#3c1098": 3, "#000000": 2, "#010203": 1} and (mask == 255).all()


def test_files_are_the_same_again_and_hold_what_was_found(found: Audit, spoilt: Path, tmp_path: Path) -> None:
    page = write_audit(found, tmp_path / "one")
    again = audit([f"data.root={spoilt}", "data.val_scenes=[c,b]", '+data.classes.road="#ffffff"'])
    write_audit(again, tmp_path / "two")
    files = sorted(path.name for path in page.parent.iterdir())
    assert files == ["audit.csv", "audit.html", "ceiling.json", "faults.txt", "overlaps.csv"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    rows = list(csv.DictReader((tmp_path / "one" / "audit.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == [record.pair.name for record in found.records]
    assert float(rows[0]["share/background"]) == pytest.approx(found.records[0].shares[0], abs=1e-6)
    assert json.loads((tmp_path / "one" / "ceiling.json").read_text())["miou"] == found.ceiling["miou"]
    assert (tmp_path / "one" / "faults.txt").read_text().splitlines() == found.faults


def test_the_command_says_it_and_its_exit_code_means_it(spoilt: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["audit", f"data.root={spoilt}", "--out", str(tmp_path / "out")])
    assert end.value.code == cli.FAULTY
    printed = capsys.readouterr().out
    assert "bad: 4 faults that train.py refuses" in printed and printed.endswith(f"{tmp_path / 'out' / 'audit.html'}\n")
    for name in ("s0", "s1"):
        for folder in ("data", "label"):
            (tmp_path / "good" / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(spoilt / folder / f"{name}.png", tmp_path / "good" / folder)
    with pytest.raises(SystemExit) as end:
        cli.main(["audit", f"data.root={tmp_path / 'good'}", "--out", str(tmp_path / "out")])
    assert end.value.code == 0 and (tmp_path / "out" / "faults.txt").read_text() == ""


def test_wrong_input_is_one_line(spoilt: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, text in {"broken": "{", "other": "x: 1"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(text)
    for arguments, message in {
        (f"data.root={tmp_path / 'none'}",): "no such folder; data.root must hold data/ and label/",
        (f"data.root={tmp_path / 'file'}",): "is no folder; data.root must hold",
        (f"data.root={tmp_path / 'empty'}",): "no pair of an image and a label in it: data/: no such folder",
        (): "data.root must be given",
        (f"data.root={spoilt}", "--out", str(tmp_path / "file")): "is a file, accepted is a folder",
        ("data.rot=x",): "data.rot: no such key; did you mean root?",
        ("data=foldr",): "data=foldr: no such data; did you mean folder?",
        (f"data.root={tmp_path}", "data.size=big"): 'data.size="big": accepted is int or',
        (f"data.root={spoilt}", "--run", str(tmp_path)): "accepted is a run folder",
        (f"data.root={spoilt}", "--run", str(tmp_path / "broken")): "config.yaml: not a readable config",
        (f"data.root={spoilt}", "--run", str(tmp_path / "other")): "config.yaml: ",
    }.items():
        with pytest.raises(SystemExit) as end:
            cli.main(["audit", "--out", str(tmp_path / "out"), *arguments])
        said = capsys.readouterr().err
        assert end.value.code == cli.FAILED and said.startswith("seglab: ") and said.count("\n") == 1
        assert message in said, said


def test_names_from_files_are_text(tmp_path: Path) -> None:
    root, conf = tmp_path / "set", tmp_path / "conf" / "data" / "evil.yaml"
    names = [f"a{HOSTILE}{i}" for i in range(2)]
    for i, name in enumerate(names):
        save(root, name, *draw_scene(1, i, 64, 64))
    (root / "scenes.csv").write_text("name,scene\n" + "".join(f"{name},{name}\n" for name in names))
    conf.parent.mkdir(parents=True)
    classes = [f'"{HOSTILE}": "#112233"', *(f"{c}: '#c8c8c8'" for c in "abc")]
    conf.write_text("defaults: [folder]\nclasses:\n" + "".join(f"  {c}\n" for c in classes))
    found = audit(["data=evil", f"hydra.searchpath=[file://{conf.parent.parent}]", f"data.root={root}"])
    assert HOSTILE in found.classes
    page = write_audit(found, tmp_path / "out").read_text()
    assert "<img src=x" not in page and page.count("&lt;img src=x onerror=alert(1)&gt;") >= 20


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_page_in_a_browser(browser: Browser, found: Audit, tmp_path: Path, size) -> None:
    browser.size(*size)
    browser.open(write_audit(found, tmp_path))
    assert browser.errors() == []
    assert (
        browser.run("return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length")
        == 0
    )
    linked = browser.run(
        "return [...document.querySelectorAll('nav a')].map(a => document.querySelector(a.hash) !== null)"
    )
    assert len(linked) == 10 and all(linked)
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    broken = "return Promise.all([...document.images].map(i => i.decode().then(() => 0, () => 1)))"
    browser.run("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    assert sum(browser.run(broken)) == 0
    opacity = "return getComputedStyle(document.querySelector('.stack img + img')).opacity"
    assert browser.run(opacity) == "0.55"
    browser.run("document.querySelector('.stack').click()")
    assert browser.run(opacity) == "0"
    assert browser.errors() == []
