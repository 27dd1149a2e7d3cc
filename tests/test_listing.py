"""Files of a folder and rows of scenes.csv, as people have them: paired, or refused with the reason."""

import logging
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seglab.data import FolderReader
from seglab.data.files.listing import natural
from seglab.data.problems import DataError, grouped, some
from tests.conftest import write_pair

ZURICH = "Zürich"


def listed(root: Path) -> tuple[list[str], list[str]]:
    pairs, problems = FolderReader().pairs(root)
    return [pair.name for pair in pairs], problems


def scenes(root: Path, table: str | bytes) -> tuple[list[str | None], list[str]]:
    (root / "scenes.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    pairs, problems = FolderReader().pairs(root)
    return [pair.scene for pair in pairs], problems


@pytest.fixture
def two(tmp_path: Path) -> Path:
    for name in ("1", "2"):
        write_pair(tmp_path / "set", name)
    return tmp_path / "set"


def test_natural_order_of_any_name(tmp_path: Path) -> None:
    names = ["1", "2", "10", "01", "a2", "a10", "km²", "²", "٣", "Übersicht"]
    for name in names:
        write_pair(tmp_path, name)
    found, problems = listed(tmp_path)
    assert problems == [] and sorted(found) == sorted(names)
    assert [n for n in found if n in ("01", "1", "2", "10")] == ["01", "1", "2", "10"]
    assert natural("a2") < natural("a10") and found == sorted(names, key=natural)


def test_names_are_the_same_in_either_unicode_form(two: Path) -> None:
    write_pair(two, "x")
    for folder, form in (("data", "NFD"), ("label", "NFC")):
        (two / folder / "x.png").rename(two / folder / (unicodedata.normalize(form, ZURICH) + ".png"))
    table = f"name,scene\n1,a\n2,b\n{unicodedata.normalize('NFD', ZURICH)},c\n"
    assert scenes(two, table) == (["c", "a", "b"], [])
    assert listed(two)[0] == [ZURICH, "1", "2"]


def test_suffixes_of_any_case_and_two_files_of_one_name(two: Path) -> None:
    (two / "data" / "1.png").rename(two / "data" / "1.PNG")
    assert listed(two) == (["1", "2"], [])
    Image.new("RGB", (24, 20)).save(two / "data" / "1.jpg")
    assert listed(two)[1] == ["data/1.jpg: 1.PNG has the same name"]


def test_files_that_are_no_usable_image_are_problems(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = two / "data"
    for name in ("link", "loop", "pipe", "closed", "odd"):
        write_pair(two, name)
        (data / f"{name}.png").unlink()
    (data / "link.png").symlink_to("nowhere.png")
    (data / "loop.png").symlink_to("loop.png")
    os.mkfifo(data / "pipe.png")
    (data / "closed.png").write_bytes((data / "1.png").read_bytes())
    (data / "odd.png").mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != data / "closed.png" and access(path, mode))
    (two / "label" / "odd.png").unlink()
    names, problems = listed(two)
    assert names == ["1", "2"]
    assert problems == [
        "data/closed.png: not readable (Permission denied)",
        "data/link.png: a link that leads nowhere",
        "data/loop.png: a link that leads nowhere",
        "data/odd.png/: a folder, accepted is an image file",
        "data/pipe.png: neither a file nor a link to one",
    ]


def test_links_to_images_are_images(two: Path) -> None:
    (two / "data" / "1.png").rename(two / "elsewhere.png")
    (two / "data" / "1.png").symlink_to(two / "elsewhere.png")
    assert listed(two) == (["1", "2"], [])


def test_a_name_that_is_no_utf_8_is_a_problem(two: Path) -> None:
    try:
        (two / "data" / "x.png").with_name(os.fsdecode(b"\xfc.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes no such name")
    (problem,) = listed(two)[1]
    assert problem == r"data/\udcfc.png: its name is not UTF-8: accepted is another name"
    problem.encode()


def test_sub_folders_with_images_are_a_problem_and_others_are_named(
    two: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (".hidden", "empty", "north/deep", "one"):
        (two / "data" / name).mkdir(parents=True)
    (two / "data" / ".hidden" / "1.png").write_bytes(b"")
    (two / "data" / ".1.png").write_bytes(b"")
    (two / "data" / "Thumbs.db").write_bytes(b"")
    (two / "data" / "one" / "3.PNG").write_bytes(b"")
    for i in range(3):
        (two / "data" / "north" / "deep" / f"{i}.tif").write_bytes(b"")
    (two / "data" / "north" / "again").symlink_to("..")
    names, problems = listed(two)
    assert names == ["1", "2"]
    end = "which nothing would read: accepted are files side by side"
    assert problems == [
        f"data/north/: a sub-folder with 3 images, {end}",
        f"data/one/: a sub-folder with 1 image, {end}",
    ]
    assert f"2 in {two / 'data'} are no images" in caplog.text and ": data/Thumbs.db, data/empty/" in caplog.text


def test_folders_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    (tmp_path / "label").symlink_to("label")
    assert listed(tmp_path)[1] == ["data/: no such folder", "label/: not readable (Too many levels of symbolic links)"]


@pytest.mark.parametrize(
    "table",
    [
        "name,scene\n1,a\n2,b\n",
        "\ufeffname,scene\r\n1,a\r\n2,b\r\n",
        "name;scene\n1;a\n2;b",
        "name\tscene\n1\ta\n2\tb",
        "\n\nscene , Name,date\n\n a, 1 ,2020\n,,\n  b  ,2\n   \n",
        "name,scene\n1.png,a\n2.TIF,b\n",
        '"name";"scene"\n"1";"a"\n"2";"b"\n',
        "name,scene\r1,a\r2,b\r",
        "name,scene\n1,a\n2,b\n1,a\n 1, a\n",
    ],
)
def test_tables_of_scenes_that_say_the_same(two: Path, table: str, caplog: pytest.LogCaptureFixture) -> None:
    assert scenes(two, table) == (["a", "b"], []) and not caplog.records


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (f"name,scene\n1,{ZURICH}\n2,b\n".encode("latin1"), "line 2 is not UTF-8: save it as UTF-8 (iconv -f latin1"),
        ("name,scene\n1,a\n".encode("utf-16"), "line 1 is not UTF-8"),
        ("name,scene\n1,a\n2,b\n1,c\n", "1 has two scenes, a and c (line 4)"),
        ("name,scene\n1,a\n2,b\n 1 ,c\n", "1 has two scenes, a and c (line 4)"),
        ("name,scene\n1,a\n2\n", "no scene for 2"),
        ("name,scene\n1,a\n2,  \n", "no scene for 2"),
        ("name,scene\n1,a,b\n2,b\n", "line 2 holds 3 values, its header 2"),
        ("", "columns [], expected name,scene"),
        ("\n \n", "columns [], expected name,scene"),
        ("image,scene\n1,a\n", "columns ['image', 'scene'], expected name,scene"),
        ('name,scene\n1,"a\n', "no scene for 2"),
    ],
)
def test_tables_of_scenes_that_are_refused(two: Path, table: str | bytes, said: str) -> None:
    (problem,) = scenes(two, table)[1]
    assert problem.startswith(f"scenes.csv: {said}") and "\n" not in problem


def test_a_table_that_cannot_be_opened(two: Path) -> None:
    (two / "scenes.csv").mkdir()
    assert listed(two)[1] == ["scenes.csv: not readable (Is a directory)"]
    (two / "scenes.csv").rmdir()
    (two / "scenes.csv").symlink_to("nowhere")
    assert listed(two)[1] == ["scenes.csv: not readable (No such file or directory)"]


def test_rows_of_images_that_are_not_there_are_warned_of(two: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    rows = "".join(f"{i},s{i}\n" for i in range(1, 9))
    assert scenes(two, f"name,scene\n{rows}") == (["s1", "s2"], [])
    assert "scenes.csv names 6 images that have no pair of files here: 3, 4, 5 and 3 more" in caplog.text


def test_equal_faults_of_many_files_are_one_line(tmp_path: Path) -> None:
    alike = [f"data/{i}.tif: 5 bands: accepted are 3" for i in range(5)]
    few = [f"label/{i}.png: label values 9" for i in range(3)]
    alone = [f"data/{i}.png: there is no label/{i}.*" for i in range(4)]
    no_scene = [f"scenes.csv: no scene for {i}" for i in range(6)]
    lines = grouped([*alike, *few, *alone, *no_scene, "folds 4"])
    assert lines == [
        "5 files (data/0.tif, data/1.tif, data/2.tif, …): 5 bands: accepted are 3",
        *few,
        "4 files (data/0.png, data/1.png, data/2.png, …): there is no label/<the same name>.*",
        "scenes.csv: no scene for 6 images (0, 1, 2, …)",
        "folds 4",
    ]
    error = DataError("root", [*alike, *few])
    assert str(error).splitlines() == ["the data in root can't be used, 8 problems:", *(f"  {x}" for x in lines[:4])]
    assert len(error.problems) == 8
    assert str(DataError("root", [f"{i}: {i}" for i in range(60)])).endswith("\n  and 10 more")
    assert some("ab") == "a, b" and some("abcd") == "a, b, c and 1 more"


def test_the_pair_order_is_no_matter_of_hashing(tmp_path: Path) -> None:
    for name in ("001", "1", "01"):
        write_pair(tmp_path, name)
        assert np.asarray(Image.open(tmp_path / "label" / f"{name}.png")).ndim == 2
    assert listed(tmp_path)[0] == ["001", "01", "1"]
