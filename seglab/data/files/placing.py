"""Places in another coordinate system, and whether polygons that were moved there corner by corner kept their place."""

import numpy as np

from seglab.data.files.rasters import Grid
from seglab.machine.extras import optional


def moved(places: np.ndarray, source: str, target: str | None) -> np.ndarray:
    """Places `[N,2]` in another CRS."""
    warp = optional("rasterio.warp", "drawing polygons")
    crs = optional("rasterio.crs", "drawing polygons").CRS.from_wkt
    return np.stack(warp.transform(crs(source), crs(target), places[:, 0], places[:, 1]), 1)


def check_kept(before: np.ndarray, after: np.ndarray, crs: str, grid: Grid, height: int, width: int) -> None:
    """Raises ValueError where a polygon holds the centre of an image before it is moved and not after, or the reverse,
    by more than half the image: its sides are so long that their corners do not tell their place. `crs`: of `before`.
    """
    shapely = optional("shapely", "drawing polygons")
    affine = np.reshape(grid.transform, (2, 3))
    places = np.array([(width / 2, height / 2, 1), (0, 0, 1)]) @ affine.T
    here = places[0]
    there = moved(places[:1], grid.crs or crs, crs)[0]
    other = np.flatnonzero(shapely.contains_xy(before, *there) != shapely.contains_xy(after, *here))
    far = shapely.distance(shapely.boundary(after[other]), shapely.points(here)) > np.hypot(*(places[1] - here))
    wrong = other[far | ~shapely.is_valid(after[other])]
    if len(wrong):
        bounds = ", ".join(f"{v:.6g}" for v in shapely.bounds(before[wrong[0]]))
        raise ValueError(
            f"a polygon from {bounds} is too large to be moved to the image's coordinate system corner by corner; "
            "accepted are smaller ones, or sides with more corners (ogr2ogr -segmentize)"
        )
