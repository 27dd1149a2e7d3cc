"""Labels with nothing to learn are refused, and classes that a side lacks are named before anything trains."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab.audit.audit import audit
from seglab.data import FolderReader
from seglab.data.presence import absent_classes, empty_labels
from seglab.labels import VOID
from tests.test_data import CLASSES, make, problems

TWO = {"ground": "#c8c8c8", "road": "#d1495b"}
VALIDATES = {"val_scenes": ["7", "8"]}


def write(root: Path, labels: dict[int, np.ndarray]) -> Path:
    for i, label in labels.items():
        picture = np.random.default_rng(i).integers(0, 256, (*label.shape, 3)).astype(np.uint8)
        for folder, array in (("data", picture), ("label", label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / folder / f"{i}.png")
    return root


def halves(a: int, b: int) -> np.ndarray:
    label = np.full((16, 16), a, np.uint8)
    label[:, 8:] = b
    return label


def faults(root: Path) -> list[str]:
    """The faults of an audit that training refuses."""
    return list(audit([f"data.root={root}", "data.val_scenes=['7','8']"]).faults)


def test_sentences_by_hand() -> None:
    counts = {"train": np.array([5, 0, 3, 0]), "val": np.array([5, 2, 0, 0])}
    assert absent_classes(counts, list(CLASSES)) == [
        "No pixel of “water”: a network cannot learn it from these labels.",
        "No pixel of “roof” among the training images: it cannot be learnt from this split.",
        "No pixel of “tree” among the validation images: its IoU cannot be measured on this split.",
    ]
    assert absent_classes({"train": np.array([1, 1])}, "ab") == absent_classes({"val": np.zeros(2, int)}, "ab") == []
    assert empty_labels({"train": np.array([1, 1]), "val": np.array([1, 0])}, 9, "ab", True) == []


def test_a_class_that_one_side_lacks_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = {i: halves(i % 2, 1) for i in range(1, 7)} | {7: halves(0, 2), 8: halves(0, 0)}
    data = make(write(tmp_path / "set", labels), **VALIDATES)
    data.setup()
    data.setup()
    for sentence in (
        "No pixel of “water”: a network cannot learn it from these labels.",
        "No pixel of “tree” among the training images: it cannot be learnt from this split.",
        "No pixel of “roof” among the validation images: its IoU cannot be measured on this split.",
    ):
        assert caplog.text.count(sentence) == 1


def test_binary_labels_of_0_and_255_are_refused_with_the_way_out(tmp_path: Path) -> None:
    root = write(tmp_path / "set", {i: halves(0, VOID) for i in range(1, 9)})
    (said,) = problems(root, classes=TWO, **VALIDATES)
    assert said.startswith("no label holds a class 1 (road), but 1,024 pixels are void (255): if 255 is your road, ")
    (of_four,) = problems(root, **VALIDATES)
    assert of_four.startswith(
        "no label holds a class above 0 (ground), but 1,024 pixels are void (255): if 255 is your "
    )
    palette = {"#000000": "ground", "#ffffff": "road"}
    assert 'data.reader.palette to {"#000000": ground, "#ffffff": road}' in said
    data = make(root, classes=TWO, reader=FolderReader(palette), **VALIDATES)
    data.setup()
    assert (data.cache[0][1] == halves(0, 1)).all()
    write(root, {1: halves(1, VOID)})
    make(root, classes=TWO, **VALIDATES).setup()  # a class 1 somewhere: 255 is void


def test_labels_that_are_all_void_are_refused_and_the_audit_says_the_same(tmp_path: Path) -> None:
    root = write(tmp_path / "set", {i: halves(VOID, VOID) for i in range(1, 9)})
    said = ["every pixel of every label is void (255): accepted are labels that hold classes"]
    assert problems(root, **VALIDATES) == said == faults(root)
    write(root, {i: halves(0, 1) for i in (7, 8)})
    said = ["every pixel of the training labels is void (255): accepted is another split"]
    assert problems(root, **VALIDATES) == said == faults(root)
    write(root, {i: halves(0, 1) for i in range(1, 7)} | {i: halves(VOID, VOID) for i in (7, 8)})
    said = ["every pixel of the validation labels is void (255): accepted is another split"]
    assert problems(root, **VALIDATES) == said == faults(root)
    write(root, {8: halves(0, VOID)})
    make(root, **VALIDATES).setup()
    assert faults(root) == []


def test_a_hidden_image_is_void_for_training_and_audit(tmp_path: Path) -> None:
    root = write(tmp_path / "set", {i: halves(0, 1) for i in range(1, 9)})
    alpha = np.full((16, 16), 255, np.uint8)
    alpha[:4] = 0
    rgba = np.dstack([np.asarray(Image.open(root / "data" / "1.png")), alpha])
    Image.fromarray(rgba).save(root / "data" / "1.png")
    data = make(root, **VALIDATES)
    assert (data.cache[0][1][:4] == VOID).all() and (data.cache[0][1][4:] == halves(0, 1)[4:]).all()
    found = audit([f"data.root={root}"])
    assert found.records[0].void == 64 and list(found.faults) == []


def test_the_audit_names_turned_images(tmp_path: Path) -> None:
    root = write(tmp_path / "set", {i: halves(0, 1) for i in range(1, 9)})
    exif = Image.Exif()
    exif[274] = 3
    Image.open(root / "data" / "2.png").save(root / "data" / "2.png", exif=exif)
    texts = [f.text for f in audit([f"data.root={root}"]).findings]
    assert any(t.startswith("1 image turned upright, as the EXIF orientation says: 2.") for t in texts)


def test_the_audit_finds_what_a_float_label_holds_and_groups_its_faults(tmp_path: Path) -> None:
    root = write(tmp_path / "set", {i: halves(0, 1) for i in range(1, 9)})
    for i in range(1, 6):
        (root / "label" / f"{i}.png").unlink()
        Image.fromarray(np.where(halves(0, 1) == 1, np.nan, 0.0).astype(np.float32)).save(root / "label" / f"{i}.tif")
    Image.fromarray(halves(0, 1).astype(np.float32) * 2.5).save(root / "label" / "5.tif")
    found = audit([f"data.root={root}"])
    nan = "label values nan: accepted are 0..3 and 255 (void); write 255 where there is no label"
    assert set(found.faults) == {
        *(f"label/{i}.tif: {nan}" for i in range(1, 5)),
        "label/5.tif: label values 2.5: accepted are 0..3 and 255 (void)",
    }
    assert set(problems(root)) == set(found.faults)
    assert found.records[0].wrong == {"nan": 128} and found.records[4].wrong == {"2.5": 128}
    assert any(
        "5 faults that train.py refuses with these settings: 4 files (label/1.tif" in f.text for f in found.findings
    )
