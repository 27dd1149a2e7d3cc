"""Polygons as labels: areas that are known, whatever the file and its coordinates, and one line for what is wrong."""

from pathlib import Path

import numpy as np
import pytest
import shapely
from rasterio.crs import CRS

from seglab.data.files.polygons import read_polygons
from seglab.data.files.rasters import Grid
from seglab.labels import VOID
from tests.polygons import CLASSES, LEFT, ROOF, SIDE, TOP, TREE, UTM, rectangle, write_polygons

GRID = Grid((SIDE, 0, LEFT, 0, -SIDE, TOP), CRS.from_string(UTM).to_wkt())


def drawn(path: Path, order: list[str] | None = None, **how) -> np.ndarray:
    return read_polygons(path, CLASSES, "class", None, order).map(GRID, 20, 30, **how)[0]


def areas(label: np.ndarray) -> list[int]:
    """Pixels of each class and of void."""
    return np.bincount(label.ravel(), minlength=256)[[0, 1, 2, VOID]].tolist()


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.json", "a.shp"])
@pytest.mark.parametrize("classes", [["roof", "tree"], [1, 2]])
def test_areas_are_those_of_the_polygons(tmp_path: Path, name: str, classes: list) -> None:
    path = write_polygons(tmp_path / name, [ROOF, TREE], classes)
    label = drawn(path, outside=0)
    assert areas(label) == [600 - 88, 64, 24, 0]
    assert (label[5:9, 8:14] == 2).all() and (label[3:11, 2:8] == 1).all()
    assert areas(drawn(path)) == [0, 64, 24, 600 - 88]


def test_the_last_is_on_top_in_the_order_of_the_file_or_of_the_names(tmp_path: Path) -> None:
    path = write_polygons(tmp_path / "a.gpkg", [TREE, ROOF, rectangle(20, 0, 2, 2)], ["tree", "roof", "void"])
    assert areas(drawn(path, outside=0)) == [600 - 92, 80, 8, 4]
    assert areas(drawn(path, ["ground", "roof", "tree"], outside=0)) == [600 - 92, 64, 24, 4]


def test_a_pixel_belongs_to_the_polygon_that_holds_its_centre_or_to_each_that_touches_it(tmp_path: Path) -> None:
    path = write_polygons(tmp_path / "a.gpkg", [rectangle(2.6, 3.4, 4, 4)], ["roof"])
    assert areas(drawn(path, outside=0))[1] == 4 * 4
    assert areas(drawn(path, outside=0, all_touched=True))[1] == 5 * 5


def test_holes_and_parts_and_what_is_beyond_the_image(tmp_path: Path) -> None:
    hole = rectangle(2, 2, 10, 10).difference(rectangle(4, 4, 3, 3))
    two = shapely.union(rectangle(20, 1, 2, 3), rectangle(25, 15, 100, 100))
    path = write_polygons(tmp_path / "a.gpkg", [hole, two, rectangle(500, 0, 9, 9)], ["roof", "tree", "tree"])
    label, touching = read_polygons(path, CLASSES, "class").map(GRID, 20, 30, 0)
    assert areas(label) == [600 - 91 - 31, 100 - 9, 6 + 25, 0]
    assert touching.tolist() == [0, 1]


def test_a_turned_grid(tmp_path: Path) -> None:
    path = write_polygons(tmp_path / "a.gpkg", [ROOF], ["roof"])
    upside_down = Grid((SIDE, 0, LEFT, 0, SIDE, TOP - 20 * SIDE), GRID.crs)
    label = read_polygons(path, CLASSES, "class").map(upside_down, 20, 30, 0)[0]
    assert (label == drawn(path, outside=0)[::-1]).all()


BOW = shapely.Polygon([(LEFT, TOP), (LEFT + 9, TOP - 9), (LEFT + 9, TOP), (LEFT, TOP - 9)])


@pytest.mark.parametrize(
    ("name", "shapes", "classes", "said"),
    [
        ("a.gpkg", [ROOF, BOW], ["roof", "tree"], "the geometry of feature 2 is not valid: Self-intersection"),
        ("a.gpkg", [ROOF, ROOF.centroid], ["roof", "tree"], "the geometry of feature 2 is no polygon; accepted are"),
        (
            "a.geojson",
            [ROOF, TREE],
            ["roof", "treee"],
            "class of feature 1 is no class ('treee'); accepted are ground, ",
        ),
        ("a.geojson", [ROOF, TREE], ["roof", None], "class of feature 1 is no class (no value); "),
        ("a.gpkg", [ROOF], [3], "class of feature 1 is no class (3); accepted are 0..2 and 255 (void), or class names"),
    ],
)
def test_what_is_wrong_with_a_polygon_is_one_line(tmp_path: Path, name: str, shapes, classes, said: str) -> None:
    path = write_polygons(tmp_path / "label" / name, shapes, classes)
    with pytest.raises(ValueError) as raised:
        read_polygons(path, CLASSES, "class")
    assert str(raised.value).startswith(f"label/{name}: {said}") and "\n" not in str(raised.value)


def test_what_is_wrong_with_a_file_is_one_line(tmp_path: Path) -> None:
    good = write_polygons(tmp_path / "good.gpkg", [ROOF], ["roof"], layer="one")
    write_polygons(good, [TREE], ["tree"], layer="two")
    bare = write_polygons(tmp_path / "bare.shp", [ROOF], ["roof"])
    bare.with_suffix(".prj").unlink()
    (tmp_path / "vrt.gpkg").write_text("<OGRVRTDataSource/>")
    (tmp_path / "sqlite.gpkg").write_bytes(b"SQLite format 3\0" + bytes(4080))
    (tmp_path / "vrt.geojson").write_text(" <OGRVRTDataSource/>")
    (tmp_path / "topology.json").write_text('{"type": "Topology", "objects": {}, "arcs": []}')
    (tmp_path / "empty.shp").touch()
    for name, column, said in (
        ("good.gpkg", "class", r"2 layers \(one, two\): data.reader.layer, or --layer of seglab crop, must name one"),
        ("bare.shp", "class", "polygons without a coordinate system"),
        ("vrt.gpkg", "class", "not a GeoPackage, as its suffix says"),
        ("sqlite.gpkg", "class", "not a GeoPackage, as its suffix says"),
        ("vrt.geojson", "class", "not a GeoJSON, as its suffix says"),
        ("topology.json", "class", ": "),
        ("empty.shp", "class", r"an empty file \(0 bytes\)"),
        ("none.shp", "class", "No such file"),
    ):
        with pytest.raises(ValueError, match=said) as raised:
            read_polygons(tmp_path / name, CLASSES, column)
        assert name in str(raised.value) and "\n" not in str(raised.value)
    assert len(read_polygons(good, CLASSES, "class", "two").values) == 1
    with pytest.raises(ValueError, match=r"no column 'kind': .*--class-column of seglab crop, must name one of class"):
        read_polygons(good, CLASSES, "kind", "one")


def test_a_polygon_whose_corners_do_not_tell_its_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    for corners, right in (((-180, -90, 180, 90), False), ((47, 15, 67, 35), True)):
        path.write_text(
            '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {"class": "tree"}, '
            f'"geometry": {shapely.to_geojson(shapely.box(*corners))}}}]}}'
        )
        if right:
            assert areas(drawn(path, outside=0)) == [0, 0, 600, 0]
            continue
        with pytest.raises(ValueError, match=r"a.geojson: a polygon from -180, -90, 180, 90 is too large"):
            drawn(path, outside=0)
