"""`seglab predict` where files of a folder were planted or changed, and images whose place is of no use."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from test_predict_rasters import SMALL_TILES, drawn
from test_rasters import written

from seglab.predict.output import outputs, resume
from seglab.run.folder import Run, runs_of


@pytest.fixture
def run(copied) -> Run:
    (run,) = runs_of(copied("epochs=1"))
    return run


@pytest.fixture
def stopped(seglab, run: Run, tmp_path: Path, monkeypatch) -> tuple[Path, Callable]:
    """The folder of the finished rows of a map that was interrupted, and what goes on with it."""
    values = np.random.default_rng(0).integers(1, 256, (3, 203, 150), dtype=np.uint8)
    image = written(tmp_path / "scene.tif", values)
    asked = ("predict", run.folder, image, *SMALL_TILES, "--out", tmp_path / "m")
    add = resume.OnDisk.add

    def once(part: resume.OnDisk, rows) -> None:
        add(part, rows)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resume.OnDisk, "add", once)
        assert seglab(*asked).code == 130
    (part,) = (tmp_path / "m").iterdir()
    return part, lambda *more: seglab(*asked, *more)


@pytest.mark.parametrize("name", ["lock", "ids.raw", "state.json", "plain.tif", "cog.tif", "."])
def test_nothing_is_written_through_a_link_among_finished_rows(stopped, tmp_path: Path, name: str) -> None:
    part, go_on = stopped
    other = tmp_path / "other"
    planted = part / name
    if name == ".":
        part.rename(other)
    else:
        other.write_text("precious")
        planted.unlink(missing_ok=True)
    planted.symlink_to(other)
    before = {path: path.read_bytes() for path in (other, *other.rglob("*")) if path.is_file()}
    ended = go_on()
    assert ended.code == 1 and ended.err.count("\n") == 1 and str(planted) in ended.err
    assert {path: path.read_bytes() for path in before} == before
    planted.unlink()
    assert go_on().code == 0


def test_a_link_beside_finished_rows_is_left_alone(stopped, tmp_path: Path) -> None:
    part, go_on = stopped
    (tmp_path / "other").mkdir()
    link = part.with_name(".scene.0123456789abcdef.part")
    link.symlink_to(tmp_path / "other")
    assert go_on().code == 0
    assert link.is_symlink() and not list((tmp_path / "other").iterdir())


@pytest.mark.parametrize("rows", ["-5", "true", "100000", "7.0", "null"])
def test_a_number_of_rows_that_no_map_has_begins_anew(stopped, tmp_path: Path, rows: str) -> None:
    part, go_on = stopped
    (part / "state.json").write_text(f'{{"rows": {rows}}}')
    os.truncate(part / "ids.raw", 100_000 * 150)
    (part / "vector.gpkg").write_text("half of one")
    assert go_on("--vector", "--tile", 64).code == 0
    found = sorted(path.name for path in (tmp_path / "m").iterdir())
    assert found == ["scene.gpkg", "scene.tif", "scene_color.tif"]


def test_another_mask_beside_the_image_begins_anew(stopped, tmp_path: Path) -> None:
    _, go_on = stopped
    before = (tmp_path / "scene.tif").read_bytes()
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(tmp_path / "scene.tif", "r+") as file:
        file.write_mask(np.tile(np.arange(150) > 9, (203, 1)))
    assert (tmp_path / "scene.tif").read_bytes() == before and (tmp_path / "scene.tif.msk").exists()
    assert go_on().code == 0
    with rasterio.open(tmp_path / "m" / "scene.tif") as file:
        assert (file.read(1)[:, :10] == 255).all()


@pytest.mark.parametrize("place", [(0.5, 0.5, 5e5, 0.5, 0.5, 28e5), (float("nan"), 0, 5e5, 0, -0.5, 28e5)])
def test_a_pixel_without_area_has_no_place(seglab, run: Run, tmp_path: Path, place: tuple) -> None:
    image = drawn(tmp_path / "scene.tif", 40, 50)
    with rasterio.open(image, "r+") as file:
        file.transform = rasterio.Affine(*place)
    ended = seglab("predict", run.folder, image, "--vector", "--out", tmp_path / "m")
    assert (ended.code, ended.out) == (0, f"{tmp_path / 'm' / 'scene.png'}\n")
    assert ended.err.count("\n") == 1, "no warning of pyogrio"


def test_a_place_that_a_map_would_lose_is_refused(seglab, run: Run, tmp_path: Path) -> None:
    corners = [(0, 0, 5e5, 28e5), (0, 50, 5.1e5, 28e5), (40, 0, 5e5, 27e5)]
    points = [rasterio.control.GroundControlPoint(*corner) for corner in corners]
    image = tmp_path / "scene.tif"
    shape = {"height": 40, "width": 50, "count": 3, "dtype": "uint8"}
    with rasterio.open(image, "w", driver="GTiff", crs="EPSG:32640", gcps=points, **shape) as file:
        file.write(np.ones((3, 40, 50), np.uint8))
    ended = seglab("predict", run.folder, image, "--out", tmp_path / "m")
    assert ended.code == 1 and f"{image}: placed by ground control points: accepted is a transform" in ended.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--device", "cpu:"), "--device cpu:: not on this machine"),
        (("--scale", "1e308"), "resized by 1e+308, has more than 16,777,216 a side"),
        (("--out", "scene.tif"), "--out scene.tif: is a file, accepted is a folder"),
        (("--out", "scene.tif/maps"), "--out scene.tif/maps: scene.tif is a file, accepted is a folder"),
    ],
)
def test_an_option_that_can_not_be_is_one_line(seglab, run: Run, tmp_path, monkeypatch, options, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    image = drawn(Path("scene.tif"), 40, 50)
    ended = seglab("predict", run.folder, image, *options)
    assert ended.code == 1 and said in ended.err and ended.err.count("\n") == 1


@pytest.mark.parametrize(("option", "module"), [("--vector", "pyogrio"), ("--probabilities", "rasterio")])
def test_a_missing_library_is_told_before_anything_is_mapped(seglab, run: Run, tmp_path, monkeypatch, option, module):
    image = drawn(tmp_path / "scene.tif", 40, 50)
    monkeypatch.setitem(sys.modules, module, None)
    ended = seglab("predict", run.folder, image, option, "--out", tmp_path / "m")
    assert ended.code == 1 and ended.err == f"seglab: {option} needs {module}: pip install 'seglab[geo]'\n"
    assert not (tmp_path / "m").exists()


def test_all_files_are_of_one_map_whatever_another_command_writes(seglab, run: Run, tmp_path, monkeypatch) -> None:
    image = drawn(tmp_path / "scene.tif", 100, 90)
    asked = ("predict", run.folder, image, "--vector", "--simplify", 0, "--out")
    write = outputs.write_vector

    def meanwhile(*arguments: object) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(outputs, "write_vector", write)
            assert seglab(*asked, tmp_path / "m", *SMALL_TILES).code == 0
        write(*arguments)

    assert seglab(*asked, tmp_path / "alone").code == 0
    monkeypatch.setattr(outputs, "write_vector", meanwhile)
    assert seglab(*asked, tmp_path / "m").code == 0
    alone, both = (sorted((tmp_path / name).iterdir()) for name in ("alone", "m"))
    assert [path.read_bytes() for path in alone] == [path.read_bytes() for path in both]


def test_without_the_extra_a_place_is_not_lost_in_silence(seglab, run: Run, tmp_path: Path, monkeypatch) -> None:
    image = drawn(tmp_path / "scene.tif", 30, 40)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    ended = seglab("predict", run.folder, image, "--out", tmp_path / "m")
    assert ended.code == 1 and "scene.tif: a map with the place of its image needs" in ended.err
    assert "pip install 'seglab[geo]'" in ended.err and not (tmp_path / "m").exists()
