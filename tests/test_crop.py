"""Crops of large scenes: the same pixels, whole files, and one line for what cannot be cut."""

import csv
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image
from test_data import CLASSES, make
from test_rasters import PLACE, written

import seglab.data.crops.crop as module
from seglab.data.crops.crop import EDGES, Cut
from seglab.data.crops.gdal import Gdal
from seglab.data.files.pixels import read_image, read_label
from seglab.data.files.rasters import open_raster

SIZE = (40, 53)
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (*SIZE, 4)).astype(np.uint8)
IDS = RNG.integers(0, 4, SIZE).astype(np.uint8)
COLORS = np.array([(60, 16, 152), (132, 41, 246), (255, 255, 255), (0, 0, 0)], np.uint8)


def palette(array: np.ndarray, **_: object) -> Image.Image:
    picture = Image.fromarray(array)
    picture.putpalette(COLORS.ravel().tolist())
    return picture


def saved(path: Path, picture: np.ndarray | Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(path, **options)
    return path


def exif(orientation: int) -> Image.Exif:
    out = Image.Exif()
    out[274] = orientation
    return out


def rows(root: Path) -> list[dict[str, str]]:
    with (root / "scenes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def file_of(root: Path, folder: str, name: str) -> Path:
    (found,) = (root / folder).glob(f"{name}.*")
    return found


def part(row: dict[str, str]) -> tuple[slice, slice]:
    top, left, height, width = (int(row[key]) for key in ("top", "left", "height", "width"))
    return slice(top, top + height), slice(left, left + width)


SCENES: dict[str, Callable[[Path], Path]] = {
    "bmp": lambda path: saved(path.with_suffix(".bmp"), PIXELS[..., :3]),
    "bmp of greys": lambda path: saved(path.with_suffix(".bmp"), PIXELS[..., 0]),
    "png": lambda path: saved(path.with_suffix(".png"), PIXELS[..., :3]),
    "png with alpha": lambda path: saved(path.with_suffix(".png"), np.where(PIXELS > 99, PIXELS, 0)),
    "png with a transparent colour": lambda path: saved(path.with_suffix(".png"), PIXELS[..., 0], transparency=7),
    "png with a palette": lambda path: saved(path.with_suffix(".png"), palette(IDS)),
    "png of 1 bit": lambda path: saved(path.with_suffix(".png"), Image.fromarray(PIXELS[..., 0] > 99)),
    "png of 2 bits": lambda path: saved(path.with_suffix(".png"), IDS * 85, bits=2),
    "turned png": lambda path: saved(path.with_suffix(".png"), PIXELS[..., :3].transpose(1, 0, 2), exif=exif(6)),
    "jpg": lambda path: saved(path.with_suffix(".jpg"), PIXELS[..., :3], quality=90),
    "turned jpg": lambda path: saved(path.with_suffix(".jpg"), PIXELS[..., :3].transpose(1, 0, 2), exif=exif(8)),
    "tif": lambda path: saved(path.with_suffix(".tif"), PIXELS[..., :3], compression="tiff_adobe_deflate"),
    "tif with alpha": lambda path: saved(path.with_suffix(".tif"), PIXELS),
    "geotiff": lambda path: written(path.with_suffix(".tif"), PIXELS[..., :3].transpose(2, 0, 1), nodata=0),
}
LABELS: dict[str, Callable[[Path], Path]] = {
    "png": lambda path: saved(path.with_suffix(".png"), IDS),
    "png of 2 bits": lambda path: saved(path.with_suffix(".png"), IDS * 85, bits=2),
    "png with a palette": lambda path: saved(path.with_suffix(".png"), palette(IDS)),
    "colours": lambda path: saved(path.with_suffix(".png"), COLORS[IDS]),
    "colours in a bmp": lambda path: saved(path.with_suffix(".bmp"), COLORS[IDS]),
    "int16": lambda path: written(path.with_suffix(".tif"), IDS[None].astype(np.int16), nodata=-1),
    "float64": lambda path: written(path.with_suffix(".tif"), IDS[None].astype(np.float64)),
}


def check_same_reading(scene: Path, label: Path, root: Path) -> None:
    """Raises where reading a crop does not give what reading the whole gives there."""
    whole, ids = read_image(scene), read_label(label)
    found = rows(root)
    for row in found:
        window = part(row)
        image = read_image(file_of(root, "data", row["name"]))
        label_part = read_label(file_of(root, "label", row["name"]))
        assert (image.values == whole.values[window]).all()
        hidden = np.zeros(SIZE, bool) if whole.hidden is None else whole.hidden
        assert (hidden[window] == (False if image.hidden is None else image.hidden)).all()
        assert label_part.dtype == ids.dtype and (label_part == ids[window]).all()
    assert len(found) == 6 and {(r["height"], r["width"]) for r in found} == {("16", "16")}


@pytest.mark.parametrize("kind", SCENES)
def test_crops_of_a_scene_are_read_as_the_whole_is(seglab, tmp_path: Path, kind: str) -> None:
    scene, label = SCENES[kind](tmp_path / "a"), LABELS["png"](tmp_path / "labels" / "a")
    ended = seglab("crop", scene, "--labels", label, "--size", 16, "--out", tmp_path / "root")
    assert ended == (0, f"6 crops of 1 scene in {tmp_path / 'root'}\n", "")
    check_same_reading(scene, label, tmp_path / "root")
    assert file_of(tmp_path / "root", "data", "a_1_2").suffix == (".tif" if scene.suffix == ".tif" else ".png")


@pytest.mark.parametrize("kind", LABELS)
def test_crops_of_a_label_are_read_as_the_whole_is(seglab, tmp_path: Path, kind: str) -> None:
    scene = SCENES["png"](tmp_path / "a")
    label = LABELS[kind](tmp_path / "a_label")
    assert seglab("crop", tmp_path, "--size", 16, "--out", tmp_path / "root").code == 0
    check_same_reading(scene, label, tmp_path / "root")


def test_bands_and_all_that_a_geotiff_says_stay(seglab, tmp_path: Path) -> None:
    values = RNG.integers(0, 60000, (5, *SIZE)).astype(np.uint16)
    scene = written(tmp_path / "a.tif", values, nodata=7, tiled=True, blockxsize=16, blockysize=16)
    with rasterio.open(scene, "r+") as file:
        file.descriptions, file.scales, file.units = list("rgbnh"), [0.5] * 5, ["m"] * 5
    written(tmp_path / "a_label.tif", IDS[None])
    assert seglab("crop", tmp_path, "--size", 16, "--stride", 10, "--out", tmp_path / "root").code == 0
    assert len(rows(tmp_path / "root")) == 3 * 4
    for row in rows(tmp_path / "root"):
        with rasterio.open(scene) as whole, rasterio.open(file_of(tmp_path / "root", "data", row["name"])) as crop:
            assert (crop.read() == values[:, *part(row)]).all() and crop.dtypes == whole.dtypes
            assert (crop.crs, crop.nodata, crop.descriptions) == (whole.crs, 7, tuple("rgbnh"))
            assert (crop.scales, crop.units) == (whole.scales, whole.units)
            assert crop.transform * (0, 0) == pytest.approx(whole.transform * (int(row["left"]), int(row["top"])))
        with open_raster(file_of(tmp_path / "root", "label", row["name"]), [1]) as label:
            assert label.grid and (label.read(0, 0, 16, 16).values[..., 0] == IDS[part(row)]).all()


@pytest.mark.parametrize("kind", ["mask", "1 bit", "float64", "16-bit png"])
def test_masks_bits_and_types_stay(seglab, tmp_path: Path, kind: str) -> None:
    LABELS["png"](tmp_path / "a_label")
    scene = tmp_path / ("a.png" if kind == "16-bit png" else "a.tif")
    if kind == "16-bit png":
        cv2.imwrite(str(scene), PIXELS[..., :3].astype(np.uint16) * 251)
    elif kind == "mask":
        written(scene, PIXELS[..., :3].transpose(2, 0, 1))
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(scene, "r+") as file:
            file.write_mask(IDS > 0)
    elif kind == "1 bit":
        written(scene, IDS[None] // 2, nbits=1)
    else:
        written(scene, RNG.normal(size=(2, *SIZE)), nodata=float("nan"))
    assert seglab("crop", tmp_path, "--size", 16, "--out", tmp_path / "root").code == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        for row in rows(tmp_path / "root"):
            path = file_of(tmp_path / "root", "data", row["name"])
            with rasterio.open(scene) as whole, rasterio.open(path) as crop:
                assert (crop.read() == whole.read()[:, *part(row)]).all() and crop.dtypes == whole.dtypes
                assert (crop.dataset_mask() == whole.dataset_mask()[part(row)]).all()
                bits = [file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS") for file in (whole, crop)]
                assert bits[0] == bits[1] == ("1" if kind == "1 bit" else None)


def test_it_cuts_as_the_original_did(seglab, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(shared / "data" / "dubai"))
    from make_tiles import joined

    image, label = joined("data", 2, "jpg"), joined("label", 2, "png")
    saved(tmp_path / "tile2.tif", image, compression="tiff_adobe_deflate")
    saved(tmp_path / "tile2_label.png", label)
    assert seglab("crop", tmp_path, "--size", 500, "--out", tmp_path / "root").code == 0
    starts = [(y, x) for y in range(0, len(image) - 499, 500) for x in range(0, image.shape[1] - 499, 500)]
    assert [(int(row["top"]), int(row["left"])) for row in rows(tmp_path / "root")] == starts
    for row in rows(tmp_path / "root"):
        assert (read_image(file_of(tmp_path / "root", "data", row["name"])).values == image[part(row)]).all()
        assert (read_label(file_of(tmp_path / "root", "label", row["name"])) == label[part(row)]).all()


@pytest.mark.parametrize(
    ("length", "stride", "starts"),
    [
        (40, None, ([0, 16], [0, 16, 24], [0, 16, 32])),
        (32, None, ([0, 16], [0, 16], [0, 16])),
        (33, 8, ([0, 8, 16], [0, 8, 16, 17], [0, 8, 16, 24])),
        (40, 20, ([0, 20], [0, 20], [0, 20])),
        (10, None, ([], [0], [0])),
    ],
)
def test_where_crops_begin(length: int, stride: int | None, starts: tuple[list[int], ...]) -> None:
    assert tuple(Cut(16, stride, edge).starts(length) for edge in EDGES) == starts


def test_crops_at_the_edge_are_kept_on_demand(seglab, tmp_path: Path) -> None:
    SCENES["png"](tmp_path / "a")
    LABELS["png"](tmp_path / "a_label")
    covered = np.zeros(SIZE, int)
    assert seglab("crop", tmp_path, "--size", 16, "--edge", "keep", "--out", tmp_path / "root").code == 0
    for row in rows(tmp_path / "root"):
        covered[part(row)] += 1
        assert (read_label(file_of(tmp_path / "root", "label", row["name"])) == IDS[part(row)]).all()
    assert (covered == 1).all()


def test_empty_crops_are_left_out_on_demand(seglab, tmp_path: Path) -> None:
    pixels, ids = np.full((3, 16, 64), 9, np.uint8), np.ones((16, 64), np.uint8)
    pixels[:, :, :16] = 0  # no data
    ids[:, 16:32], ids[:8, 32:48] = 255, 3
    written(tmp_path / "a.tif", pixels, nodata=0)
    saved(tmp_path / "a_label.png", ids)

    def cut(name: str, *options: object) -> list[str]:
        assert seglab("crop", tmp_path, "--size", 16, "--out", tmp_path / name, *options).code == 0
        return [row["name"] for row in rows(tmp_path / name)]

    assert cut("all") == ["a_0_0", "a_0_1", "a_0_2", "a_0_3"]
    assert cut("empty", "--drop-empty") == ["a_0_2", "a_0_3"]
    assert cut("half", "--drop-empty", 0.5, "--void", 3) == ["a_0_3"]
    assert cut("more", "--drop-empty", 0.51, "--void", 3) == ["a_0_2", "a_0_3"]
    assert set(np.unique(read_label(tmp_path / "half" / "label" / "a_0_3.png"))) == {1}
    ended = seglab("crop", tmp_path, "--size", 16, "--out", tmp_path / "none", "--drop-empty", "--void", 1, 3)
    assert ended.code == 1 and "leaves none of 4 crops" in ended.err and not (tmp_path / "none").exists()


def test_colours_may_mean_void_and_white_does_not(seglab, tmp_path: Path) -> None:
    SCENES["png"](tmp_path / "a")
    saved(tmp_path / "a_label.png", COLORS[np.where(np.arange(53) < 16, 2, 3) * np.ones((40, 1), int)])
    options = ("--size", 16, "--drop-empty", "--void", "#000000")
    assert seglab("crop", tmp_path, *options, "--out", tmp_path / "root").code == 0
    assert [row["name"] for row in rows(tmp_path / "root")] == ["a_0_0", "a_1_0"]


def test_a_stop_leaves_whole_files_and_the_same_command_goes_on(seglab, tmp_path: Path, monkeypatch) -> None:
    SCENES["png"](tmp_path / "a")
    LABELS["png"](tmp_path / "a_label")
    again = ("crop", tmp_path, "--size", 16, "--out", tmp_path / "root")
    writing = module.replacing
    calls: list[Path] = []

    def stopped(path: Path):
        calls.append(path)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return writing(path)

    monkeypatch.setattr(module, "replacing", stopped)
    assert seglab(*again).code == 130
    assert len(list((tmp_path / "root" / "data").iterdir())) == 3 and not (tmp_path / "root" / "scenes.csv").exists()
    first = {path: path.stat().st_mtime_ns for path in calls[:4]}
    monkeypatch.setattr(module, "replacing", writing)
    assert seglab(*again).code == 0
    assert {path: path.stat().st_mtime_ns for path in first} == first
    check_same_reading(tmp_path / "a.png", tmp_path / "a_label.png", tmp_path / "root")
    assert seglab(*again) == (0, f"{tmp_path / 'root'} is done: 6 crops of 1 scene\n", "")
    (tmp_path / "root" / "data" / "a_0_1.png").unlink()
    assert seglab(*again).out == f"6 crops of 1 scene in {tmp_path / 'root'}\n"
    for change in (["--stride", 8], ["--edge", "shift"]):
        assert "was cut in another way" in seglab(*again, *change).err
    saved(tmp_path / "a.png", PIXELS[::-1, :, :3])
    assert "another way (other files for a)" in seglab(*again).err


def test_what_cannot_be_cut_is_named_and_nothing_is_written(seglab, tmp_path: Path) -> None:
    for name, label in {"a": IDS[:, 1:], "b": IDS, "c": None, "d": IDS}.items():
        saved(tmp_path / "in" / f"{name}.png", PIXELS[..., :3])
        if label is not None:
            saved(tmp_path / "in" / f"{name}_label.png", label)
    saved(tmp_path / "in" / "b.jpg", PIXELS[..., :3])
    saved(tmp_path / "in" / "d_label.bmp", IDS)
    out = ("--size", 16, "--out", tmp_path / "root")
    said = seglab("crop", tmp_path / "in", *out).err
    assert "in/b.png: in/b.jpg has the same name" in said and "in/c.png: no label c_label.* beside it" in said
    assert "in/d.png: several labels (in/d_label.bmp, in/d_label.png), accepted is one" in said
    said = seglab("crop", tmp_path / "in" / "a.png", *out).err
    assert "in/a.png: the scene is 53x40, its label in/a_label.png 52x40: accepted are equal sizes" in said
    assert not (tmp_path / "root").exists()
    good = tmp_path / "in" / "b.png"
    said = seglab("crop", good, "--size", 16, "--out", tmp_path / "in").err
    assert "holds other files (a.png, a_label.png, b.jpg), accepted is a new" in said
    assert "no scene is as large (53x40)" in seglab("crop", good, "--out", tmp_path / "root").err


def test_grids_must_be_one(seglab, tmp_path: Path) -> None:
    written(tmp_path / "a.tif", PIXELS[..., :3].transpose(2, 0, 1))
    with rasterio.open(written(tmp_path / "a_label.tif", IDS[None]), "r+") as file:
        file.transform = PLACE["transform"] @ rasterio.Affine.translation(1, 0)
    said = seglab("crop", tmp_path, "--size", 16, "--out", tmp_path / "root").err
    assert "a.tif: the scene is at (0.5, 0, 500000, 0, -0.5, 2800000) in EPSG:32640, its label" in said
    assert "at (0.5, 0, 500000.5, 0, -0.5, 2800000) in EPSG:32640: accepted is one grid" in said


def test_a_large_scene_is_read_by_rows_of_crops(seglab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {"width": 4000, "height": 3000, "count": 3, "dtype": "uint8", "sparse_ok": True}
    for name, change in (("a.tif", {}), ("a_label.tif", {"count": 1})):
        with rasterio.open(tmp_path / name, "w", driver="GTiff", **PLACE, **(shape | change)):
            pass
    asked = []
    read = Gdal.read
    monkeypatch.setattr(Gdal, "read", lambda self, *window: asked.append((self, window)) or read(self, *window))
    monkeypatch.setattr(module, "BLOCK", 3 * 1000 * 1000)
    assert seglab("crop", tmp_path, "--size", 500, "--out", tmp_path / "root").code == 0
    assert len(rows(tmp_path / "root")) == 48
    assert {(height, width) for _, (_, _, height, width) in asked} == {(500, 2000)}
    assert len(asked) == 2 * 12


@pytest.mark.parametrize("kind", ["bmp", "png", "png with a palette", "jpg", "tif"])
def test_plain_pictures_need_no_extra(seglab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    scene, label = SCENES[kind](tmp_path / "a"), LABELS["png"](tmp_path / "a_label")
    placed = SCENES["geotiff"](tmp_path / "placed")
    saved(tmp_path / "placed_label.png", IDS)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    assert seglab("crop", scene, "--size", 16, "--out", tmp_path / "root").code == 0
    check_same_reading(scene, label, tmp_path / "root")
    said = seglab("crop", placed, "--size", 16, "--out", tmp_path / "other").err
    assert "a georeferenced TIFF" in said and "pip install 'seglab[geo]'" in said


def test_polygons_become_ids(seglab, tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    written(tmp_path / "scenes" / "a.tif", PIXELS[..., :3].transpose(2, 0, 1))
    west, north, east, south = 500004, 2799996, 500014, 2799990
    ring = [[west, north], [east, north], [east, south], [west, south], [west, north]]
    roof = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "properties": {"kind": "roof"}, "geometry": roof}
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32640"}}
    polygons = tmp_path / "roofs.geojson"
    polygons.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))
    how = ("--labels", polygons, "--class-column", "kind", "--size", 16, "--out", tmp_path / "root")
    said = seglab("crop", tmp_path / "scenes", *how).err
    assert "polygons need --classes" in said
    classes = ("--classes", "ground", "roof")
    assert "--outside is missing" in seglab("crop", tmp_path / "scenes", *how, *classes).err
    assert seglab("crop", tmp_path / "scenes", *how, *classes, "--outside", "ground").code == 0
    want = np.zeros(SIZE, np.uint8)
    want[8:20, 8:28] = 1
    for row in rows(tmp_path / "root"):
        assert (read_label(file_of(tmp_path / "root", "label", row["name"])) == want[part(row)]).all()


def test_a_root_of_crops_trains(seglab, tmp_path: Path) -> None:
    for name in "ab":
        SCENES["tif"](tmp_path / name)
        LABELS["png"](tmp_path / f"{name}_label")
    assert seglab("crop", tmp_path, "--size", 16, "--edge", "shift", "--out", tmp_path / "root").code == 0
    data = make(tmp_path / "root", classes=CLASSES, val_scenes=["b"])
    data.setup()
    assert [len(side) for side in data.indices] == [12, 12]
    assert {data.pairs[i].scene for i in data.indices[1]} == {"b"}


def test_scenes_whose_grounds_overlap_share_a_scene(seglab, tmp_path: Path) -> None:
    for name in "abc":
        saved(tmp_path / "in" / f"{name}.png", PIXELS[..., :3])
        saved(tmp_path / "in" / f"{name}_label.png", IDS)
    groups = tmp_path / "groups.csv"
    groups.write_text("name,scene\na,north\nb,north\n")
    again = ("crop", tmp_path / "in", "--size", 32, "--out", tmp_path / "root", "--groups", groups)
    assert "no scene for c" in seglab(*again).err
    groups.write_text("name,scene\na,north\nb,north\nc,c\n")
    assert seglab(*again).out == f"3 crops of 2 scenes in {tmp_path / 'root'}\n"
    assert [(row["name"], row["scene"]) for row in rows(tmp_path / "root")] == [
        ("a_0_0", "north"),
        ("b_0_0", "north"),
        ("c_0_0", "c"),
    ]


def test_another_mask_beside_a_scene_is_another_root(seglab, tmp_path: Path) -> None:
    scene = tmp_path / "a.tif"
    for path, bands in ((scene, 3), (tmp_path / "a_label.tif", 1)):
        written(path, np.ones((bands, 20, 20), np.uint8))
    asked = ("crop", scene, "--size", 10, "--out", tmp_path / "root")
    assert [seglab(*asked).code, seglab(*asked).code] == [0, 0]
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(scene, "r+") as file:
        file.write_mask(np.zeros((20, 20), bool))
    ended = seglab(*asked)
    assert ended.code == 1 and "other files for a" in ended.err


def test_no_crop_is_written_through_a_link(seglab, tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    for name in ("a", "a_label"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "scenes" / f"{name}.png")
    asked = ("crop", tmp_path / "scenes", "--out", tmp_path / "out", "--size", 4)
    assert seglab(*asked).code == 0
    (tmp_path / "out" / "data").rename(tmp_path / "elsewhere")
    (tmp_path / "out" / "data").symlink_to(tmp_path / "elsewhere")
    ended = seglab(*asked)
    assert ended.code == 1 and "a link, through which no crop is written" in ended.err
