"""Rasters as people have them: bands in their own type from file to batch, on the grid of their labels."""

import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from seglab.audit.audit import audit
from seglab.audit.gallery import gallery
from seglab.config.compose import composed
from seglab.config.identity import identity
from seglab.config.parts import build_data
from seglab.config.schema import Config, ConfigError, plain
from seglab.data import DataError, SegmentationData, raster_reader
from seglab.data.files.raster_labels import read_raster_label
from seglab.data.folder import median_metres
from seglab.data.kept import decoding
from seglab.data.kept.cache import open_cache
from seglab.data.raster_reader import RasterReader
from seglab.labels import VOID
from tests.polygons import CLASSES, ROOF, TREE, rectangle, write_polygons
from tests.test_rasters import PLACE, written

KINDS = ("uint8", "uint16", "int16", "float32")
IDS = np.zeros((1, 24, 24), np.uint8)
IDS[0, 3:11, 2:12] = 1


def ramp(kind: str, bands: int = 5, seed: int = 0) -> np.ndarray:
    """Values `[C,24,24]` of all magnitudes of the type."""
    most = 256 if kind == "uint8" else 30000
    return np.random.default_rng(seed).integers(1, most, (bands, 24, 24)).astype(kind)


def write_set(root: Path, kind: str = "uint16", count: int = 4, bands: int = 5) -> Path:
    """Pairs of rasters in scenes of their own."""
    for folder in ("data", "label"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        written(root / "data" / f"{i}.tif", ramp(kind, bands, i))
        written(root / "label" / f"{i}.tif", IDS)
    (root / "scenes.csv").write_text("name,scene\n" + "".join(f"{i},s{i}\n" for i in range(count)))
    return root


def configured(root: Path, *overrides: str) -> Config:
    config = composed(["data=raster", f"data.root={root}", "data.bands=[1,2,3,4,5]", "precision=32", *overrides])
    return config.but(data={**plain(config.data), "classes": CLASSES, "cache_dir": str(root.parent / "cache")})


def made(root: Path, *overrides: str) -> SegmentationData:
    return build_data(configured(root, *overrides))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set")


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_type_are_those_of_the_file_from_cache_to_batch(tmp_path: Path, kind: str) -> None:
    root = write_set(tmp_path / "set", kind)
    data = made(root, "data.bands=[5,1,2]", "data.augment=[]", "data.batch_size=3")
    data.setup()
    for i in range(4):
        image, mask = data.cache[i]
        assert image.dtype == kind and (image == ramp(kind, 5, i)[[4, 0, 1]].transpose(1, 2, 0)).all()
        assert (mask == IDS[0]).all()
    batch = next(iter(data.train_dataloader()))
    ready = data.on_after_batch_transfer(batch, 0)
    assert ready["image"].dtype == torch.float32
    want = np.stack([ramp(kind, 5, int(name))[[4, 0, 1]] for name in batch["name"]])
    assert (ready["image"].numpy() == want.astype(np.float32)).all()


@pytest.mark.parametrize(("kind", "bands"), [("uint8", 5), ("uint16", 1), ("int16", 5), ("float32", 5)])
def test_augmented_pixels_are_the_same_values_elsewhere(tmp_path: Path, kind: str, bands: int) -> None:
    root = write_set(tmp_path / "set", kind, bands=bands)
    data = made(root, f"data.bands={[*range(1, bands + 1)]}", "data.crop=[26,16]")
    data.setup()
    image, mask = data.cache[0]
    moved = [data.augmentation(image, mask, 0, epoch, 0) for epoch in range(6)]
    place = {tuple(v): m for v, m in zip(image.reshape(-1, bands).tolist(), mask.ravel().tolist(), strict=True)}
    for values, label in moved:
        assert values.shape == (26, 16, bands) and values.dtype == kind
        real = label != VOID
        assert real.sum() > 0 and not values[~real].any()
        assert bands == 1 or all(place[tuple(v)] == m for v, m in zip(values[real].tolist(), label[real], strict=True))
    assert len({values.tobytes() for values, _ in moved}) > 3


def test_a_resized_band_is_the_mean_of_its_pixels(root: Path) -> None:
    data = made(root, "data.size=12")
    values = ramp("uint16").astype(float).reshape(5, 12, 2, 12, 2).mean((2, 4)).transpose(1, 2, 0)
    image = data.cache[0][0]
    assert image.dtype == np.uint16 and np.abs(image - values).max() <= 0.5


def test_a_large_scene_is_decoded_in_strips_to_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = ramp("uint16")
    values[:, 9:14, 3:7] = 0
    written(root / "data" / "1.tif", values, nodata=0)
    whole = made(root).cache
    monkeypatch.setattr(decoding, "LARGE", 100)
    monkeypatch.setattr(raster_reader, "STRIP", 10)
    monkeypatch.setattr(RasterReader, "load", None)
    data = made(root)
    parts = open_cache(root.parent / "again", data.content, data.pairs, decoding.Decoding(data.reader, CLASSES, None))
    assert all((a == b).all() for i in range(4) for a, b in zip(whole[i], parts[i], strict=True))
    assert (parts[1][1][9:14, 3:7] == VOID).all() and (parts.class_counts == whole.class_counts).all()
    assert parts.sizes == whole.sizes == parts.originals
    written(root / "data" / "3.tif", ramp("uint8"))
    with pytest.raises(DataError, match=r"data/3.tif: 5 bands of uint8, where"):
        made(root).setup()


def test_what_has_no_value_is_0_and_void(root: Path) -> None:
    values = ramp("float32")
    values[:, :4], values[2, 9, 9] = np.nan, np.nan
    written(root / "data" / "0.tif", values)
    image, mask = RasterReader([1, 3]).load(RasterReader([1, 3]).pairs(root)[0][0], CLASSES)
    assert (mask[:4] == VOID).all() and (mask[4:] == IDS[0, 4:]).all()
    assert not image[:4].any() and image[9, 9].tolist() == [values[0, 9, 9], 0]


def test_a_set_has_one_type(root: Path) -> None:
    written(root / "data" / "2.tif", ramp("uint8"))
    with pytest.raises(
        DataError, match=r"data/2.tif: 5 bands of uint8, where the images before have 5 bands of uint16"
    ):
        made(root).setup()


def moved(path: Path, values: np.ndarray, x: float = 0, crs: str = "EPSG:32640") -> Path:
    written(path, values)
    with rasterio.open(path, "r+") as file:
        file.transform = rasterio.transform.from_origin(500000 + x, 2800000, 0.5, 0.5)
        file.crs = crs
    return path


@pytest.mark.parametrize(
    ("values", "x", "crs", "said"),
    [
        (IDS, 0.5, "EPSG:32640", "its label 24x24 at (0.5, 0, 500000.5, 0, -0.5, 2800000) in EPSG:32640"),
        (IDS, 0, "EPSG:32639", "its label 24x24 at (0.5, 0, 500000, 0, -0.5, 2800000) in EPSG:32639"),
        (IDS[:, :9], 0, "EPSG:32640", "its label 24x9 at (0.5, 0, 500000, 0, -0.5, 2800000) in EPSG:32640"),
    ],
)
def test_a_label_on_another_grid_is_refused_with_both(root: Path, values, x: float, crs: str, said: str) -> None:
    moved(root / "label" / "1.tif", values, x, crs)
    with pytest.raises(DataError) as raised:
        made(root).setup()
    image = "data/1.tif: the image is 24x24 at (0.5, 0, 500000, 0, -0.5, 2800000) in EPSG:32640"
    assert raised.value.problems == [
        f"{image}, {said}: accepted are equal sizes and grids "
        "(gdalwarp -r near -te ... -tr ... puts a label on the grid of an image)"
    ]


def test_labels_that_fit(root: Path) -> None:
    moved(root / "label" / "0.tif", IDS, 0.002)  # what rounding does
    (root / "label" / "1.tif").unlink()
    Image.fromarray(IDS[0]).save(root / "label" / "1.png")
    written(root / "label" / "2.tif", np.where(IDS == 0, np.uint16(9999), IDS), nodata=9999)
    (root / "label" / "3.tif").unlink()
    written(root / "label" / "3.tif", IDS, photometric="palette")
    with rasterio.open(root / "label" / "3.tif", "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0, 255), 1: (9, 9, 9, 255)})
    data = made(root)
    data.setup()
    masks = [data.cache[i][1] for i in range(4)]
    assert all((masks[i] == IDS[0]).all() for i in (0, 1, 3))
    assert (masks[2] == np.where(IDS[0] == 0, VOID, 1)).all()
    colors = made(root, 'data.reader.palette={"#000000":ground,"#090909":tree}')
    pair = colors.pairs[3]
    assert (colors.reader.mask(pair, colors.reader.label(pair, CLASSES), CLASSES) == 2 * IDS[0]).all()


def test_labels_that_are_in_doubt(root: Path) -> None:
    written(root / "label" / "0.tif", IDS, nodata=0)
    written(root / "label" / "1.tif", IDS + 7)
    (root / "label" / "2.tif").unlink()
    Image.fromarray(IDS[0]).save(root / "label" / "2.jpg")
    written(root / "label" / "3.tif", np.concatenate([IDS, IDS]))
    with pytest.raises(DataError) as raised:
        made(root).setup()
    for name, said in (
        ("0.tif", "its value for no data, 0, is the class ground, too: accepted is a label without"),
        ("1.tif", "label values 7, 8: accepted are 0..2 and 255 (void)"),
        ("2.jpg", "a label with lossy compression (JPEG), which changes values"),
        ("3.tif", "a label of 2 bands of uint8"),
    ):
        assert any(line.startswith(f"label/{name}: {said}") for line in raised.value.problems), name


def test_jpeg_2000_is_a_label_where_it_is_lossless(tmp_path: Path) -> None:
    place = {"width": 24, "height": 24, "count": 1, "dtype": "uint8"} | PLACE
    for reversible, quality in (("YES", 100), ("NO", 90)):
        how = {"driver": "JP2OpenJPEG", "REVERSIBLE": reversible, "QUALITY": quality}
        with rasterio.open(tmp_path / f"{reversible}.jp2", "w", **place, **how) as file:
            file.write(IDS)
    assert (read_raster_label(tmp_path / "YES.jp2", CLASSES, False) == IDS[0]).all()
    with pytest.raises(ValueError, match=r"NO.jp2: a label with lossy compression"):
        read_raster_label(tmp_path / "NO.jp2", CLASSES, False)


def test_polygons_by_image_or_in_one_file(root: Path) -> None:
    for path in (root / "label").iterdir():
        path.unlink()
    for i in range(4):
        write_polygons(root / "label" / f"{i}.shp", [ROOF, TREE], ["roof", "tree"])
    by_image = made(root, "data.reader.outside=ground")
    by_image.setup()
    write_polygons(root / "labels.geojson", [ROOF, TREE, rectangle(900, 0, 4, 4)], ["roof", "tree", "tree"])
    shared = made(root, "data.reader.outside=ground", "data.reader.polygons=labels.geojson")
    shared.setup()
    for i in range(4):
        assert np.bincount(by_image.cache[i][1].ravel()).tolist() == [576 - 88, 64, 24]
        assert (by_image.cache[i][1] == shared.cache[i][1]).all()
    assert {path.suffix for path in by_image.pairs[0].beside} == {".shx", ".dbf", ".prj", ".cpg"}


def test_polygons_without_a_place_are_one_line(root: Path) -> None:
    write_polygons(root / "far.gpkg", [rectangle(900, 0, 4, 4)], ["roof"])
    with pytest.raises(DataError, match=r"set/far.gpkg: its polygons touch no image of data/"):
        made(root, "data.reader.outside=void", "data.reader.polygons=far.gpkg").setup()
    for i in (0, 1):
        (root / "label" / f"{i}.tif").unlink()
        write_polygons(root / "label" / f"{i}.gpkg", [rectangle(900, 0, 4, 4), ROOF][i : i + 1], ["roof"])
    Image.fromarray(ramp("uint16")[0]).save(root / "data" / "1.tif")
    with pytest.raises(DataError) as raised:
        made(root, "data.bands=[1]", "data.reader.outside=void").setup()
    first, second, *_ = raised.value.problems
    assert first == "label/0.gpkg: none of its 1 polygons touches data/0.tif"
    assert second.startswith(
        "data/1.tif: no coordinate system, so that the polygons of label/1.gpkg have no place in it"
    )
    with pytest.raises(DataError, match=r"label/0.gpkg: data.reader.outside=null, which must say what pixels in no"):
        made(root).setup()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.reader.outside=grund", "data.reader.outside='grund': accepted are ground, roof, tree and void"),
        ("data.reader.polygons=../labels.gpkg", "accepted is a path below the root that ends in .gpkg, .geojson"),
        ("data.reader.order=[roof,tree]", "accepted is null, or each of ground, roof, tree once, and perhaps void"),
        ("data.bands=[0]", "data.bands=[0]: accepted are 1 to 128 numbers, counted from 1"),
        ("data.reader.bands=[1]", "data.bands=[1, 2, 3, 4, 5], data.reader.bands=[1]: accepted are equal ones"),
        ("data.value_range=[3,1]", "accepted is null, [low, high] with low < high, or one such pair for each of the 5"),
        ("data.percentiles=[98,2]", "accepted are [low, high] with 0 <= low < high <= 100"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(root: Path, override: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        made(root, override)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_without_the_extra_one_line_names_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyogrio", None)
    with pytest.raises(ConfigError) as raised:
        made(root)
    assert str(raised.value) == "data: data=raster needs pyogrio: pip install 'seglab[geo]'"


def test_depth_bands_and_files_beside_belong_to_the_identity(root: Path) -> None:
    def key(*overrides: str) -> str:
        return identity(configured(root, *overrides), "content").key

    assert len({key(), key("data.bands=[1,2,4]"), key("data.percentiles=[1,99]"), key("data.reader.outside=void")}) == 4
    contents = [made(root).content]
    (root / "data" / "0.tfw").write_text("0.5\n0\n0\n-0.5\n500000\n2800000\n")
    contents.append(made(root).content)
    (root / "data" / "0.tfw").unlink()
    assert made(root).content == contents[0]
    written(root / "data" / "0.tif", ramp("uint16").astype(np.float32))  # the same values in another depth
    assert len({*contents, made(root).content}) == 3


def test_the_audit_finds_what_training_refuses(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGLAB_CACHE", str(root.parent / "cache"))
    overrides = ["data=raster", f"data.root={root}", "data.bands=[1,2,3,4,5]"]
    found = audit(overrides)
    assert not found.faults and len(gallery(found)) == 4
    moved(root / "label" / "1.tif", IDS, 5)
    written(root / "data" / "2.tif", ramp("uint8"))
    faults = audit(overrides).faults
    assert [line.partition(": ")[0] for line in faults] == ["data/1.tif", "data/2.tif"]
    with pytest.raises(DataError) as raised:
        made(root).setup()
    assert sorted(raised.value.problems) == sorted(faults)


def test_the_resolution_is_that_of_most_training_images(root: Path) -> None:
    reader = RasterReader([1])
    pairs = reader.pairs(root)[0]
    with rasterio.open(root / "data" / "0.tif", "r+") as file:
        file.transform = rasterio.transform.from_origin(500000, 2800000, 2, 2)
    assert median_metres(reader, pairs) == 0.5
    assert median_metres(reader, pairs[:1]) == 2 and median_metres(reader, []) is None


@pytest.mark.parametrize("kind", KINDS)
def test_windows_are_read_alone_and_are_those_of_the_whole(tmp_path: Path, kind: str, monkeypatch) -> None:
    root = write_set(tmp_path / "set", kind)
    holed = ramp(kind)
    holed[:, 5:9, 3:20] = 7
    written(root / "data" / "0.tif", holed, nodata=7)
    how = ("data.crop=10", "data.windows=6", "data.balance=classes", "data.batch_size=2")
    sets = [made(root, f"data.cache={kept}", *how) for kept in ("disk", "none")]
    for data in sets:
        data.setup()
    assert np.array_equal(*(data.value_range for data in sets))
    assert (sets[0].cache.class_counts == sets[1].cache.class_counts).all()
    monkeypatch.setattr(RasterReader, "load", None)  # from now on no whole image is read
    batches = [[b for loader in (d.train_dataloader(), *d.val_dataloader()) for b in loader] for d in sets]
    assert len(batches[0]) > 3
    for a, b in zip(*batches, strict=True):
        assert a["name"] == b["name"] and torch.equal(a["image"], b["image"]) and torch.equal(a["mask"], b["mask"])


def test_the_range_of_values_is_remembered_where_no_pixels_are_kept(root: Path, monkeypatch) -> None:
    first = made(root, "data.cache=none").value_range
    monkeypatch.setattr(RasterReader, "load", None)
    assert first is not None and np.array_equal(first, made(root, "data.cache=none").value_range)


def test_windows_of_polygons_are_refused_where_no_pixels_are_kept(root: Path) -> None:
    write_polygons(root / "roofs.gpkg", [ROOF], ["roof"])
    settings = ("data.reader.polygons=roofs.gpkg", "data.reader.outside=ground", "data.crop=10", "data.windows=6")
    with pytest.raises(ValueError, match=r"labels that are polygons are drawn whole; accepted is data.cache=disk or"):
        made(root, "data.cache=none", *settings).setup()
    assert len(made(root, "data.cache=memory", *settings).cache) == 4 * 9
