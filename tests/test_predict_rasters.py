"""`seglab predict` on rasters: georeference, colours, nodata, parts, scales, polygons, and going on after a kill."""

import errno
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio import features
from test_rasters import written

from seglab.data.files.rasters import open_raster
from seglab.labels import VOID, rgb
from seglab.predict import predict
from seglab.predict.output import geotiff
from seglab.predict.tiles import scene
from seglab.predict.tiles.resampling import Resampled
from seglab.predict.tiles.tiling import blocks
from seglab.run.folder import Run, runs_of
from tests.commands import Started

SMALL_TILES = ("--tile", 64, "--overlap", 16)


@pytest.fixture
def run(copied) -> Run:
    (run,) = runs_of(copied("epochs=1"))
    return run


def drawn(path: Path, height: int, width: int, **options: object) -> Path:
    """Bright blocks, as the runs of tests were trained on; the left upper corner holds nothing."""
    rng = np.random.default_rng(height)
    colors = np.array([(90, 90, 90), (200, 60, 60), (60, 160, 60), (40, 60, 200)])
    label = np.kron(rng.integers(0, 4, (height // 8 + 1, width // 8 + 1)), np.ones((8, 8), int))[:height, :width]
    values = (colors[label] + rng.integers(-20, 20, (height, width, 3))).astype(np.uint8).clip(1)
    values[:20, :30] = 0
    return written(path, values.transpose(2, 0, 1), nodata=0, **options)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as found:
        return np.asarray(found)


def test_a_map_has_the_place_of_its_image_and_shows_in_colours(seglab, run: Run, tmp_path: Path) -> None:
    image = drawn(tmp_path / "scene.tif", 150, 1100)
    ended = seglab("predict", run.folder, image, "--out", tmp_path / "m", "--confidence", "--probabilities")
    assert ended.code == 0 and ended.out == f"{tmp_path / 'm' / 'scene.tif'}\n"
    classes = run.config()["data"]["classes"]
    with rasterio.open(image) as source, rasterio.open(tmp_path / "m" / "scene.tif") as file:
        assert (file.shape, file.transform, file.crs) == (source.shape, source.transform, source.crs)
        assert file.dtypes == ("uint8",) and file.nodata == VOID and file.overviews(1) == [2, 4]
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert [file.colormap(1)[i] for i in range(4)] == [(*rgb(color), 255) for color in classes.values()]
        tags = file.tags()
        assert tags["seglab"] == run.folder.name and f"0={next(iter(classes))}, 1=" in tags["classes"]
        assert {tags["tile"], tags["overlap"]} == {"1024", "48"}
        ids = file.read(1)
    assert (ids[:20, :30] == VOID).all() and (np.delete(ids.ravel(), np.flatnonzero(ids == VOID)) < 4).all()
    assert (ids == VOID).sum() == 600 and len(np.unique(ids)) > 2
    with rasterio.open(tmp_path / "m" / "scene_color.tif") as file:
        color = file.read()
    table = np.array([(*rgb(c), 255) for c in classes.values()] + [(0, 0, 0, 0)], np.uint8)
    assert (color == table[np.where(ids == VOID, 4, ids)].transpose(2, 0, 1)).all()
    with rasterio.open(tmp_path / "m" / "scene_probabilities.tif") as file:
        assert file.descriptions == tuple(classes) and file.scales == (1 / 254,) * 4
        shares = file.read()
    with rasterio.open(tmp_path / "m" / "scene_confidence.tif") as file:
        confidence = file.read(1)
    there = ids != VOID
    assert (confidence == shares.max(0)).all() and (shares[:, ~there] == VOID).all()
    assert (np.abs(shares[:, there].astype(int).sum(0) - 254) <= 2).all()
    assert (shares[:, there][ids[there], np.arange(there.sum())] == confidence[there]).all()


def test_a_part_of_an_image_is_that_part_of_its_map(seglab, run: Run, tmp_path: Path) -> None:
    image = drawn(tmp_path / "scene.tif", 203, 187)
    for name, area in (("whole", ()), ("part", ("--area", 41, 7, 101, 130))):
        out = tmp_path / name
        assert seglab("predict", run.folder, image, "--out", out, *SMALL_TILES, "--confidence", *area).code == 0
    for name in ("scene.tif", "scene_confidence.tif", "scene_color.tif"):
        with rasterio.open(tmp_path / "whole" / name) as whole, rasterio.open(tmp_path / "part" / name) as part:
            window = ((7, 137), (41, 142))
            assert (whole.read(window=window) == part.read()).all()
            assert part.transform == whole.window_transform(window)
    refused = seglab("predict", run.folder, image, "--out", tmp_path / "m", "--area", 100, 0, 100, 10)
    assert "--area 100 0 100 10: accepted is a part of 187x203 pixels" in refused.err and refused.code == 1


def test_tiles_of_an_image_do_not_show(seglab, run: Run, tmp_path: Path) -> None:
    image = drawn(tmp_path / "scene.tif", 203, 187)
    for name, tiles in (("tiles", ("--tile", 96, "--overlap", 48)), ("one", ())):
        assert seglab("predict", run.folder, image, "--out", tmp_path / name, *tiles).code == 0
    assert (read(tmp_path / "tiles" / "scene.tif") == read(tmp_path / "one" / "scene.tif")).all()


def test_regions_are_polygons_with_their_area(seglab, run: Run, tmp_path: Path) -> None:
    image = drawn(tmp_path / "scene.tif", 70, 90)
    asked = ("predict", run.folder, image, "--out", tmp_path / "m", *SMALL_TILES, "--vector")
    assert seglab(*asked, "--simplify", 0).code == 0
    about, _, shapes, (names, ids, areas) = pyogrio.raw.read(tmp_path / "m" / "scene.gpkg")
    polygons = shapely.from_wkb(shapes)
    with rasterio.open(tmp_path / "m" / "scene.tif") as file:
        found = file.read(1)
        assert rasterio.crs.CRS.from_user_input(about["crs"]) == file.crs
        assert shapely.box(*file.bounds).area - shapely.union_all(polygons).area == pytest.approx(600 * 0.25)
    assert list(about["fields"]) == ["class", "class_id", "area_m2"] and shapely.is_valid(polygons).all()
    assert np.allclose(shapely.area(polygons), areas) and shapely.area(polygons).sum() == pytest.approx(areas.sum())
    for i, name in enumerate(run.config()["data"]["classes"]):
        assert areas[ids == i].sum() == pytest.approx((found == i).sum() * 0.25) and set(names[ids == i]) <= {name}
        count, _ = cv2.connectedComponents((found == i).astype(np.uint8), connectivity=4)
        assert (ids == i).sum() == count - 1
    once = (tmp_path / "m" / "scene.gpkg").read_bytes()
    assert seglab(*asked, "--simplify", 0).code == 0 and (tmp_path / "m" / "scene.gpkg").read_bytes() == once
    assert seglab(*asked).code == 0
    _, _, simpler, (_, _, same) = pyogrio.raw.read(tmp_path / "m" / "scene.gpkg")
    simpler = shapely.from_wkb(simpler)
    assert (same == areas).all()
    assert shapely.get_num_coordinates(simpler).sum() < shapely.get_num_coordinates(polygons).sum()
    assert shapely.is_valid(simpler).all() and (shapely.area(simpler) > 0).all()
    assert shapely.union_all(simpler).area == pytest.approx(shapely.area(simpler).sum())  # no overlap, and no gap
    assert not shapely.get_num_interior_rings(shapely.union_all(simpler))


def test_regions_without_a_place_are_in_pixels_and_warn_of_nothing(seglab, run: Run, tmp_path: Path) -> None:
    Image.fromarray(read(drawn(tmp_path / "scene.tif", 70, 90))).save(tmp_path / "scene.png")
    ended = seglab(
        "predict",
        run.folder,
        tmp_path / "scene.png",
        "--out",
        tmp_path / "m",
        *SMALL_TILES,
        "--vector",
        "--simplify",
        0,
    )
    assert ended.code == 0 and all(line.startswith("seglab: ") for line in ended.err.splitlines())
    about, _, shapes, (_, ids, areas) = pyogrio.raw.read(tmp_path / "m" / "scene.gpkg")
    assert about["crs"] is None and list(about["fields"])[2] == "area_px" and areas.sum() == 70 * 90
    regions = zip(shapely.from_wkb(shapes), ids.tolist(), strict=True)
    upright = rasterio.Affine(1, 0, 0, 0, -1, 0)
    assert (features.rasterize(regions, (70, 90), transform=upright) == read(tmp_path / "m" / "scene.png")).all()


class Killed(BaseException):
    """The end of a process."""


@pytest.mark.parametrize("place", [True, False])
def test_a_map_that_was_killed_at_any_row_goes_on_to_the_same_file(
    seglab, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: bool
) -> None:
    image = drawn(tmp_path / "scene.tif", 203, 150)
    if not place:
        image = tmp_path / "scene.png"
        Image.fromarray(read(tmp_path / "scene.tif")).save(image)
    kinds = ("--vector",) if place else ("--confidence",)
    asked = ("predict", run.folder, image, *SMALL_TILES, *kinds, "--out")
    assert seglab(*asked, tmp_path / "whole").code == 0
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert len(whole) == 3
    for row in range(4):
        out = tmp_path / f"row{row}"
        seen: list[int] = []

        def dying(*arguments, seen=seen, row=row, **options):
            for block in blocks(*arguments, **options):
                if block.top > row * 48:
                    raise Killed
                seen.append(block.top)
                yield block

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(scene, "blocks", dying)
            patch.setattr(predict, "write_outputs", lambda *_: (_ for _ in ()).throw(Killed))
            seglab(*asked, out)
        (part,) = out.iterdir()
        finished = json.loads((part / "state.json").read_text())["rows"]
        assert finished == (203 if row == 3 else (row + 1) * 48)
        with monkeypatch.context() as patch:
            again: list[int] = []
            patch.setattr(
                scene, "blocks", lambda *a, again=again, **o: (again.append(b.top) or b for b in blocks(*a, **o))
            )
            assert seglab(*asked, out).code == 0
        assert min(again, default=203) == finished
        assert {path.name: path.read_bytes() for path in out.iterdir()} == whole


def dying(arguments: list[str]) -> None:
    """The command, which is killed when it has kept more than one strip."""
    from seglab import cli
    from seglab.predict.output import resume

    add = resume.OnDisk.add

    def added(part: resume.OnDisk, rows: Mapping[str, np.ndarray]) -> None:
        add(part, rows)
        if part.finished > 60:
            os.kill(os.getpid(), signal.SIGKILL)

    resume.OnDisk.add = added  # type: ignore[method-assign]
    cli.main(arguments)


def test_a_killed_process_leaves_rows_and_a_changed_image_begins_anew(seglab, run: Run, tmp_path: Path) -> None:
    image = drawn(tmp_path / "scene.tif", 203, 150)
    asked = ("predict", run.folder, image, *SMALL_TILES, "--out", tmp_path / "m")
    process = Started(dying, [*map(str, asked)], environment=dict(os.environ))
    assert process.finished()[0] == -signal.SIGKILL
    (part,) = (tmp_path / "m").iterdir()
    assert part.name.startswith(".scene.") and json.loads((part / "state.json").read_text()) == {"rows": 96}
    drawn(image, 203, 150, compress="deflate")
    assert seglab(*asked).code == 0
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["scene.tif", "scene_color.tif"]


def test_a_full_disk_is_one_line_and_the_map_goes_on(seglab, run: Run, tmp_path: Path, monkeypatch) -> None:
    image = drawn(tmp_path / "scene.tif", 100, 90)
    asked = ("predict", run.folder, image, *SMALL_TILES, "--out", tmp_path / "m")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "m"))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        ended = seglab(*asked)
    assert ended.code == 1 and ended.err.count("\n") == 1
    assert "the disk is full" in ended.err and "the same command goes on once there is more" in ended.err
    assert seglab(*asked).code == 0
    with monkeypatch.context() as patch:
        patch.setattr(geotiff, "_check", lambda *_: (_ for _ in ()).throw(rasterio.errors.RasterioIOError("no strip")))
        ended = seglab(*asked)
    assert ended.code == 1 and "scene.tif: not written (no strip); is the disk full?" in ended.err


def test_bands_of_sixteen_bits_are_mapped_as_training_read_them(seglab, train, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    root = tmp_path / "set"
    for i in range(4):
        label = np.kron(rng.integers(0, 4, (4, 4)), np.ones((8, 8), int)).astype(np.uint8)
        values = (np.stack([label, 3 - label, label, label, label]).astype(int) * 9000 + 700 * i).astype(np.uint16)
        for folder, array in (("data", values), ("label", label[None])):
            (root / folder).mkdir(parents=True, exist_ok=True)
            written(root / folder / f"{i}.tif", array)
    bands = ("data=raster", "data.bands=[5,2]", f"data.root={root}", "data.batch_size=2")
    assert train(*bands, "epochs=1", f"output_dir={tmp_path / 'out'}")[0] == ""
    (made,) = runs_of(tmp_path / "out" / "default")
    (kept, *_) = sorted(made.records.maps.iterdir())
    image = root / "data" / f"{kept.stem}.tif"
    ended = seglab("predict", made.folder, image, "--out", tmp_path / "m")
    assert ended.code == 0, ended.err
    assert (read(tmp_path / "m" / f"{kept.stem}.tif") == read(kept)).all()


def test_an_image_of_another_resolution_is_refused_or_resampled(seglab, run: Run, tmp_path: Path) -> None:
    run.write_environment(run.environment() | {"resolution": 1.0})
    image = drawn(tmp_path / "scene.tif", 200, 300)
    asked = ("predict", run.folder, image, "--out", tmp_path / "m")
    ended = seglab(*asked)
    assert ended.code == 1 and ended.err.count("\n") == 1
    assert "0.5 metres a pixel, and the run was trained at 1; accepted are --resolution resample" in ended.err
    assert seglab(*asked, "--resolution", "keep").code == 0
    kept = read(tmp_path / "m" / "scene.tif")
    assert seglab(*asked, "--resolution", "resample").code == 0
    with rasterio.open(tmp_path / "m" / "scene.tif") as file:
        resampled = file.read(1)
        assert file.tags()["mapped_at"] == "150x100" and file.shape == (200, 300)
    assert (resampled != kept).mean() > 0.01 and ((resampled == VOID) == (kept == VOID)).all()
    run.write_environment(run.environment() | {"resolution": 0.6})
    assert seglab(*asked).code == 0 and (read(tmp_path / "m" / "scene.tif") == kept).all()


@pytest.mark.parametrize("size", [(50, 75), (100, 150), (77, 131), (199, 299), (400, 600), (301, 310)])
def test_resampling_by_window_is_that_of_the_whole_image(tmp_path: Path, size: tuple[int, int]) -> None:
    path = drawn(tmp_path / "scene.tif", 200, 300)
    with open_raster(path) as raster:
        seen = Resampled(raster, *size)
        whole, hidden, _ = seen.read(0, 0, *size)
        part, part_hidden, _ = seen.read(2, 3, 31, 40)
        assert (part == whole[2:33, 3:43]).all() and hidden is not None and part_hidden is not None
        assert (part_hidden == hidden[2:33, 3:43]).all() and hidden[: size[0] // 20, : size[1] // 20].all()
        image = raster.read(0, 0, 200, 300).values
    way = cv2.INTER_AREA if size[0] <= 200 and size[1] <= 300 else cv2.INTER_LINEAR
    assert np.abs(whole.astype(int) - cv2.resize(image, size[::-1], interpolation=way).astype(int)).max() <= 1


def test_a_scaled_image_is_mapped_alike_in_one_tile_and_in_several(seglab, run: Run, tmp_path: Path) -> None:
    image = drawn(tmp_path / "scene.tif", 260, 300)
    maps = []
    for name, tiles in (("one", ()), ("tiles", ("--tile", 96, "--overlap", 48))):
        asked = ("predict", run.folder, image, "--scale", 0.5, "--out", tmp_path / name, *tiles)
        assert seglab(*asked).code == 0
        maps.append(read(tmp_path / name / "scene.tif"))
    assert maps[0].shape == (260, 300) and (maps[0] == maps[1]).all()
    area = ("--area", 31, 50, 201, 103)
    asked = ("predict", run.folder, image, "--scale", 0.5, "--out", tmp_path / "part", *area)
    assert seglab(*asked, "--tile", 96, "--overlap", 48).code == 0
    assert (read(tmp_path / "part" / "scene.tif") == maps[1][50:153, 31:232]).all()


def test_several_runs_and_a_folder_of_images(seglab, run: Run, tmp_path: Path, copied) -> None:
    (other,) = runs_of(copied("epochs=2", out=tmp_path / "other"))
    folder = tmp_path / "images"
    folder.mkdir()
    for i in (1, 2, 10):
        drawn(folder / f"{i}.tif", 40 + i, 50)
    (folder / "notes.txt").write_text("no image")
    ended = seglab("predict", run.folder, other.folder, folder, "--out", tmp_path / "m", "--tta", "flips")
    assert ended.code == 0
    assert ended.out.split() == [str(tmp_path / "m" / f"{i}.tif") for i in (1, 2, 10)]
    assert "seglab: 3 of 3 images, 0.00665 Mpx, " in ended.err
    with rasterio.open(tmp_path / "m" / "10.tif") as file:
        assert file.tags()["seglab"] == f"{run.folder.name} + {other.folder.name}" and file.tags()["tta"] == "flips"
    text = other.config_file.read_text()
    other.config_file.write_text(text.replace("  classes:\n", "  classes:\n    more: '#123456'\n"))
    refused = seglab("predict", run.folder, other.folder, folder, "--out", tmp_path / "m")
    assert refused.code == 1 and "accepted are runs with the same" in refused.err and "more" in refused.err
    assert "accepted are run folders, and then images" in seglab("predict", run.folder, run.folder).err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "empty: no images in it; accepted are .png" in seglab("predict", run.folder, empty).err


def test_only_maps_are_replaced_and_no_input(seglab, run: Run, tmp_path: Path) -> None:
    image = drawn(tmp_path / "scene.tif", 30, 40)
    before = image.read_bytes()
    asked = ("predict", run.folder, image, "--vector", "--out")
    assert "would replace" in seglab(*asked, tmp_path).err and image.read_bytes() == before
    out = tmp_path / "m"
    assert seglab(*asked, out).code == 0 and seglab(*asked, out).code == 0
    for name, content in (("scene.tif", before), ("scene.gpkg", b"SQLite format 3\0 of somebody")):
        mine = (out / name).read_bytes()
        (out / name).write_bytes(content)
        refused = seglab(*asked, out)
        assert refused.code == 1 and f"{name}, the map of {image}, would replace a file that is no map" in refused.err
        assert (out / name).read_bytes() == content
        (out / name).write_bytes(mine)
    twin = tmp_path / "twin" / "scene.png"
    twin.parent.mkdir()
    Image.new("RGB", (8, 8)).save(twin)
    assert "would replace" in seglab("predict", run.folder, image, twin, "--out", out).err


def test_a_device_that_is_not_there_is_one_line(seglab, run: Run, tmp_path: Path) -> None:
    image = drawn(tmp_path / "scene.tif", 30, 40)
    for device in ("cuda:7", "tpu", "cpu:x"):
        ended = seglab("predict", run.folder, image, "--device", device, "--out", tmp_path / "m")
        assert ended.code == 1 and f"--device {device}: not on this machine; accepted are auto, cpu" in ended.err
    assert seglab("predict", run.folder, image, "--device", "cpu", "--out", tmp_path / "m").code == 0


def test_a_window_that_fails_is_an_error_and_the_others_have_their_maps(seglab, run: Run, tmp_path: Path) -> None:
    damaged = drawn(tmp_path / "a.tif", 200, 150, compress="deflate", tiled=True, blockxsize=64, blockysize=64)
    content = bytearray(damaged.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = b"\xff" * 2000
    damaged.write_bytes(content)
    whole = drawn(tmp_path / "b.tif", 100, 150)
    ended = seglab("predict", run.folder, damaged, whole, "--out", tmp_path / "m", *SMALL_TILES)
    assert ended.code == 1 and ended.out == f"{tmp_path / 'm' / 'b.tif'}\n" and ended.err.count("\n") == 1
    assert "1 of 2 images have no map: " in ended.err and "a.tif: " in ended.err and "in the window of" in ended.err
    assert not (tmp_path / "m" / "a.tif").exists()
