"""Rasters and polygons in UTM zone 40 N, 0.5 m a pixel, whose areas in pixels are known."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely
from pyogrio import raw
from rasterio.warp import transform

CLASSES = {"ground": "#c8c8c8", "roof": "#d1495b", "tree": "#3f8f4f"}
UTM = "EPSG:32640"
LEFT, TOP, SIDE = 500000, 2800000, 0.5


def rectangle(x: float, y: float, width: float, height: float) -> shapely.Polygon:
    """A rectangle whose upper left corner is so many pixels from that of the image."""
    left, top = LEFT + x * SIDE, TOP - y * SIDE
    return shapely.box(left, top - height * SIDE, left + width * SIDE, top)


ROOF, TREE = rectangle(2, 3, 10, 8), rectangle(8, 5, 6, 4)
"""80 and 24 pixels, of which they share 16."""


def in_degrees(shape: shapely.Geometry) -> shapely.Geometry:
    return shapely.transform(shape, lambda xy: np.stack(transform(UTM, "EPSG:4326", xy[:, 0], xy[:, 1]), 1))


def write_polygons(
    path: Path, shapes: Sequence[shapely.Geometry], classes: Sequence, column: str = "class", layer: str | None = None
) -> Path:
    """GeoJSON is written in WGS84, the other formats in UTM."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".geojson", ".json"):
        features = [
            {"type": "Feature", "properties": {column: c}, "geometry": json.loads(shapely.to_geojson(in_degrees(s)))}
            for s, c in zip(shapes, classes, strict=True)
        ]
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        return path
    driver = {".gpkg": "GPKG", ".shp": "ESRI Shapefile"}[path.suffix]
    kind = object if isinstance(classes[0], str) else np.int32
    raw.write(
        path,
        shapely.to_wkb(np.array(shapes)),
        [np.array(classes, kind)],
        [column],
        geometry_type="Unknown" if path.suffix == ".gpkg" else "Polygon",
        crs=UTM,
        driver=driver,
        layer=layer or path.stem,
        append=path.exists(),
    )
    return path
