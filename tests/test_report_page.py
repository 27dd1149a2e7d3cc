"""The page of a study: what real trainings wrote is on it, and what is missing is said."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from seglab.report.page import update, write_report
from seglab.run.folder import Run, runs_of
from tests.study import CLASSES, add_cell, add_test_scores, decode, draw_labels, spoil, write_data

LABELS = draw_labels(12)
SECTIONS = (
    *("answer", "grid", "classes", "seeds", "wall", "warnings", "curves", "confusion"),
    *("shares", "calibration", "unfinished", "settings", "repeat"),
)
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'{{ 7 * 7 }}{% for %}"


def text_of(page: Path) -> str:
    """Its words, without tags, styles, scripts and pictures."""
    html = re.sub(r"(?s)<style.*?</style>|<script.*?</script>|data:image/[^\"]*", " ", page.read_text())
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two finished cells and one that failed, and the data that they validate on, which their training decoded."""
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "cache"))
    names = write_data(tmp_path / "data", LABELS, [f"s{i}" for i in range(12)])
    content = decode(tmp_path / "data", tmp_path / "cache")
    for loss, share in (("dice", 0.1), ("focal", 0.3)):
        add_cell(tmp_path / "study", loss, 3, LABELS, spoil(LABELS, share), scenes=[f"s{i}" for i in range(12)],
                 names=names, root=tmp_path / "data", content=content)  # fmt: skip
    failed = {"status": "failed", "reason": "OSError: no space"}
    add_cell(
        tmp_path / "study", "focal", 6, LABELS, None, rows=[], results=failed, root=tmp_path / "data", content=content
    )
    return tmp_path / "study"


def test_a_real_grid_has_its_report_when_it_ends(train, tmp_path: Path) -> None:
    message, said = train("-m", "loss=dice,cross_entropy", "epochs=1,2", "score_train=true")
    page = tmp_path / "default" / "report.html"
    assert message == "" and f"{page} shows the maps, the curves, and which differences are real." in said
    html, text = page.read_text(), text_of(page)
    assert all(f'<h2 id="{part}">' in html and f'href="#{part}"' in html for part in SECTIONS)
    for run in runs_of(tmp_path / "default"):
        assert f"{run.results()['val']['miou']:.3f}" in text and run.folder.name in text
    assert "4 of 4 cells have a score" in text and "Every cell of the grid is done." in text
    assert "with 2 validation images nothing can be said" in text
    assert "python train.py -m data=folder" in text
    assert "cross_entropy: gradient norm" in text and "dice: mIoU" in text
    assert html.count('class="map"') == 2 * 4 and html.count('alt="label"') == 2
    assert page.stat().st_size < 400_000
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", html)


def test_a_test_split_has_a_column_and_chooses_nothing(study: Path) -> None:
    before = text_of(write_report(study))
    said = re.findall(r"[^.]*dice, 3 epochs[^.]*\.", before[: before.index("Every cell against the best")])
    assert said and "accuracy test mIoU" not in before
    (focal,) = (run for run in runs_of(study) if run.done and "focal" in run.command())
    add_test_scores(focal, 0.9876, data=focal.environment()["data"], looks=2)
    text = text_of(write_report(study))
    assert "mIoU Dice accuracy test mIoU" in text and all(sentence in text for sentence in said)
    assert re.search(r"dice, 3 epochs [\d. ]+\u2013 focal, 3 epochs [\d. ]+ 0\.988 ", text)
    assert f"{focal.folder.name}: its test split was scored 2 times" in text
    focal.evaluations.file("test").write_text("{}")
    assert f"{focal.folder.name}: its test scores can" in text_of(write_report(study))


def test_it_grows_as_cells_finish_and_a_single_training_has_one(train, tmp_path: Path) -> None:
    message, said = train("epochs=1")
    page = tmp_path / "default" / "report.html"
    assert message == "" and f"{page} shows it" in said and "1 of 1 cells has a score" in text_of(page)
    assert train("epochs=1", "loss=dice")[0] == ""
    assert "2 of 2 cells have a score" in text_of(page)


def test_a_report_that_fails_fails_no_training(train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import seglab.report.page as module

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug of the report")

    monkeypatch.setattr(module, "page", broken)
    message, said = train("-m", "epochs=1")
    assert message == "" and "report.html could not be written: RuntimeError: a bug of the report" in said
    (run,) = runs_of(tmp_path / "default")
    assert run.done


def test_what_has_no_score_is_said(study: Path) -> None:
    text = text_of(write_report(study))
    assert "2 of 3 cells have a score" in text
    assert "focal, 6 epochs failed OSError: no space" in text
    assert "dice, 6 epochs missing not trained in this study" in text


def test_a_study_of_which_nothing_is_finished(tmp_path: Path) -> None:
    add_cell(tmp_path, "dice", 3, LABELS, None, rows=[])
    add_cell(tmp_path, "focal", 3, LABELS, None)
    text = text_of(write_report(tmp_path))
    assert "No cell has a score yet." in text and "dice, 3 epochs interrupted it was killed: 0 epochs" in text
    assert "No finished cell has saved its maps yet." in text


def test_folders_without_runs_and_broken_ones(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no run folder in it; accepted is a folder such as outputs/default"):
        write_report(tmp_path)
    assert update(tmp_path) is None
    run = add_cell(tmp_path, "dice", 3, LABELS, LABELS)
    run.records.validation_file.write_text("name,scene,a\nx,y,1\n")
    run.records.calibration_file.write_bytes(b"\xff\xfe")
    text = text_of(write_report(tmp_path))
    assert (
        "validation can&#39;t be read (1 classes, the config names 3)" in text
        and "calibration can&#39;t be read" in text
    )


@pytest.mark.parametrize("config", ["[1, 2", "epochs: 3", "epochs: many", "unknown: 1", "- 1", "", "epochs: 1e308"])
def test_a_config_that_is_none_of_ours_is_a_sentence_beside_the_others(study: Path, config: str) -> None:
    (study / "else").mkdir()
    (study / "else" / "config.yaml").write_text(config)
    text = text_of(write_report(study))
    assert "else: this cell can't be read: " in text.replace("&#39;", "'")
    assert "2 of 3 cells have a score" in text


def test_hostile_texts_are_texts(tmp_path: Path) -> None:
    classes = {HOSTILE: "#c8c8c8", "b": "#d1495b", "c": "#3e8e4f"}
    names = [f"{i} & <b>{{{{ 7 * 7 }}}}" for i in range(12)]
    scenes = [f"<i>{HOSTILE}{i}" for i in range(12)]
    for seed in (0, 1):
        add_cell(tmp_path, HOSTILE, 3, LABELS, spoil(LABELS, 0.2, seed), seed, scenes, classes=classes, names=names)
    add_cell(tmp_path, "dice", 3, LABELS, None, results={"status": "failed", "reason": HOSTILE}, classes=classes)
    html = write_report(tmp_path).read_text()
    assert not any(tag in html for tag in ("<script>alert", "<img src=x", "<b>{{", "<i>&lt;", "<i></script>"))
    assert "{{ 7 * 7 }}" in text_of(tmp_path / "report.html")
    assert html.count("<script>") == html.count("</script>") == 2
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in html


def test_colours_and_names_can_not_leave_their_place(tmp_path: Path) -> None:
    run = add_cell(
        tmp_path, "dice", 3, LABELS, LABELS, classes={"a": "red;background:url(x)", "b": "#000000", "c": "#111111"}
    )
    html = write_report(tmp_path).read_text()
    assert "background:red" not in html and "class a has the colour" in text_of(tmp_path / "report.html")
    run.records.validation_file.write_text(run.records.validation_file.read_text().replace("\n00,", "\n../../00,"))
    assert "no name of an image" in text_of(write_report(tmp_path))


def test_the_wall_without_data_shows_the_runs_own_pictures(study: Path, tmp_path: Path) -> None:
    from PIL import Image

    from seglab.pages.pictures import panel

    with_data = write_report(study).read_text()
    count = with_data.count('alt="input"')
    assert count == with_data.count('class="sample"') >= 6 and "not at hand" not in with_data
    (tmp_path / "data").rename(tmp_path / "gone")
    assert write_report(study).read_text() == with_data, "the decoded copy has the content of the runs' data"
    (tmp_path / "cache").rename(tmp_path / "gone-too")
    text = text_of(write_report(study))
    assert "The data is not at hand (" in text and f"images and labels of {count} samples are not at hand" in text
    run = Run(next(r.folder for r in runs_of(study) if r.done))
    name = "00"
    image = np.asarray(Image.open(tmp_path / "gone" / "data" / f"{name}.png"))
    panel(image, LABELS[0], LABELS[0], CLASSES).save(run.pictures / f"{name}.png")
    html = write_report(study).read_text()
    assert html.count('alt="input"') == 1 and html.count('class="map"') == 2


def test_labels_that_changed_since_are_not_taken_for_those_of_the_runs(study: Path, tmp_path: Path) -> None:
    write_data(tmp_path / "new", LABELS, [f"s{i}" for i in range(12)])
    assert 'alt="input"' in write_report(study, data=tmp_path / "new").read_text()
    write_data(tmp_path / "new", (LABELS + 1) % 3, [f"s{i}" for i in range(12)])
    assert 'alt="input"' not in write_report(study, data=tmp_path / "new").read_text()


def test_a_large_wall_is_cut_and_says_so(study: Path) -> None:
    from seglab.report.study import read_study
    from seglab.report.wall import build_wall

    (table,) = read_study(study)
    whole = build_wall(table)
    part = build_wall(table, most_bytes=sum(r.bytes for r in whole.rows[:3]))
    assert len(part.rows) == 3 and f"{len(whole.rows) - 3} more samples are left out" in part.notes[-1]
    kinds = {r.name: r.kinds for r in whole.rows}
    assert "fixed" in kinds["00"] and "fixed" in kinds["11"] and sum("worst" in k for k in kinds.values()) == 6


def test_a_wall_of_fewer_maps_chooses_among_them(study: Path) -> None:
    from seglab.report.study import read_study
    from seglab.report.wall import build_wall

    for folder in study.glob("*-e3-*"):
        config = yaml.safe_load((folder / "config.yaml").read_text())
        (folder / "config.yaml").write_text(yaml.safe_dump(config | {"maps": 3}))
        for path in (folder / "maps").iterdir():
            if path.stem not in ("00", "06", "11"):
                path.unlink()
    (table,) = read_study(study)
    wall = build_wall(table)
    assert {row.name for row in wall.rows} == {"00", "06", "11"} and all(len(row.tiles) == 2 for row in wall.rows)
    assert wall.notes == ["The samples are chosen among the 3 of 12 whose maps are kept (maps=)."]


def test_the_labellers_ceiling_is_drawn_in(study: Path, tmp_path: Path) -> None:
    (study / "audit").mkdir()
    found = {"miou": 0.6543, "iou": {"ground": 0.9, "roof": 0.5, "tree": None}, "agreement": 0.896, "pixels": 2092860}
    (study / "audit" / "ceiling.json").write_text(json.dumps(found))
    text = text_of(write_report(study))
    assert "The labellers' ceiling: 0.654" in text and "2 092 860 pixels, 89.6% of them agree" in text
    assert "the labellers' ceiling 0.654 – 0.896" in text  # noqa: RUF001
    assert "the labellers' ceiling 0.900 0.500 –" in text  # noqa: RUF001
    with pytest.raises(FileNotFoundError, match=r"seglab audit"):
        write_report(study, audit=tmp_path)
    (tmp_path / "ceiling.json").write_text('{"miou": null, "iou": null}')
    assert "labellers' ceiling" not in text_of(write_report(study, audit=tmp_path))
    (tmp_path / "ceiling.json").write_text('{"miou": "<b>", "iou": {}}')
    with pytest.raises(ValueError, match="expected miou and iou by class"):
        write_report(study, audit=tmp_path)


def test_the_command(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from seglab.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["report", str(study), "--out", str(tmp_path / "new" / "page.html")])
    assert ended.value.code == 0 and capsys.readouterr().out.strip() == str(tmp_path / "new" / "page.html")
    assert not (study / "report.html").exists() and (tmp_path / "new" / "page.html").is_file()
    with pytest.raises(SystemExit) as ended:
        main(["report", str(tmp_path / "nowhere")])
    assert ended.value.code == 1 and "no run folder in it" in capsys.readouterr().err


def test_a_page_replaces_only_a_page(study: Path) -> None:
    (run, *_) = runs_of(study)
    for path in (run.results_file, run.config_file, study):
        before = path.read_bytes() if path.is_file() else None
        with pytest.raises(ValueError, match=r"is no page of seglab|is a folder"):
            write_report(study, path)
        assert before is None or path.read_bytes() == before
    assert write_report(study, study / "a.html") == write_report(study, study / "a.html")


def test_a_cell_of_other_images_is_left_out_and_named(study: Path) -> None:
    (odd, *_) = runs_of(study)
    same = {"root": study.parent / "data", "content": odd.environment()["data"]}
    add_cell(study, "lovasz", 3, LABELS, LABELS, scenes=[f"s{i}" for i in range(12)], **same)
    lines = odd.records.validation_file.read_text().splitlines()
    odd.records.validation_file.write_text("\n".join(lines[:-1]) + "\n")
    text = text_of(write_report(study))
    assert f"{odd.folder.name}: its validation.csv is of other images, so it is not compared" in text
    assert "too few cells" not in text


def test_a_run_without_its_config_is_named(study: Path) -> None:
    (run, *_) = runs_of(study)
    run.config_file.unlink()
    assert f"{run.folder.name}: this cell can" in text_of(write_report(study))
