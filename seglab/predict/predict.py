"""Runs and images of any size -> maps."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from PIL import Image

from seglab.data.files.beside import beside
from seglab.data.files.rasters import POINTS, Grid, Raster, grid_of, open_raster, opened
from seglab.data.files.stored import GEOTIFF, ORIENTATION
from seglab.machine.extras import installed, optional
from seglab.machine.files import remove_if_empty
from seglab.predict.output.files import check_names, large_pictures
from seglab.predict.output.outputs import COLOR, VECTOR, Sheet, Wanted, write_outputs
from seglab.predict.output.resume import InMemory, digest_of, kept
from seglab.predict.tiles.memory import TILES, check_decoding, tiling_for
from seglab.predict.tiles.scale import seen
from seglab.predict.tiles.scene import IDS, PROBABILITIES, Scene
from seglab.predict.tiles.tiling import Area, Tiling
from seglab.predict.trained import Trained, in_precision, load, load_network

__all__ = ["Mapper", "Options", "in_precision", "load", "load_network", "write_maps"]


@dataclass(frozen=True)
class Options:
    """How images are mapped: `tile` and `overlap` in pixels, or as the networks need; `tta`: none, flips or d4."""

    wanted: Wanted = field(default_factory=Wanted)
    tile: int | None = None
    overlap: int | None = None
    tta: str = "none"
    area: Area | None = None


def nothing(pixels: int) -> None:
    """Takes no notice of the pixels that are done."""


def write_maps(
    trained: Trained,
    images: Sequence[Path],
    out: Path,
    options: Options | None = None,
    progress: Callable[[int], None] = nothing,
) -> Iterator[Path]:
    """Writes the map of each image, `<stem>.tif` of one that tells its place, else `<stem>.png`, and yields its path.

    A pixel that is transparent, or that its file calls no data, is VOID. Raises ValueError at once if a map would
    replace another file than a map; and at the end, when the other images have theirs, if one can't be mapped.
    """
    mapper = Mapper(trained, out, options or Options(), progress)
    mapper.options.wanted.check()
    check_names({image: list(mapper.files(image).values()) for image in images})
    return _maps(mapper, images)


def _maps(mapper: "Mapper", images: Sequence[Path]) -> Iterator[Path]:
    problems = []
    for image in images:
        try:
            path = mapper.write(image)
        except ValueError as e:
            problems.append(str(e))
            continue
        yield path
    if problems:
        head = f"{len(problems)} of {len(images)} images have no map: " if len(images) > 1 else ""
        raise ValueError(head + "; ".join(problems))


class Mapper:
    """Maps of image files by some networks, in a folder."""

    def __init__(self, trained: Trained, out: Path, options: Options, progress: Callable[[int], None] = nothing):
        self.trained = trained
        self.out = out
        self.options = options
        self.progress = progress
        self._place = cache(_grid)  # asked for before anything is written, and again

    def files(self, image: Path) -> dict[str, Path]:
        """The files of an image's map by kind."""
        return self.options.wanted.files(self.out, image.stem, self._place(image) is not None)

    def write(self, image: Path) -> Path:
        """Writes the map of an image and gives its path. Raises ValueError that names the image and the reason."""
        _check_place(image)
        with large_pictures():
            if self.trained.bands is None:
                check_decoding(image)
            with open_raster(image, self.trained.bands) as raster:
                try:
                    return self._write(image, raster)
                except (MemoryError, RuntimeError) as e:
                    if isinstance(e, RuntimeError) and "memory" not in str(e):
                        raise
                    raise ValueError(f"{image}: the memory is not enough; --tile takes smaller tiles") from e

    def _write(self, image: Path, raster: Raster) -> Path:
        place = self._place(image)
        scene = self._scene(raster, place)
        area = scene.area
        facts = {"tile": str(scene.tiling.size), "overlap": str(scene.tiling.overlap), "tta": scene.tta}
        facts |= {"checkpoint": self.trained.checkpoint, "mapped_at": f"{scene.seen.width}x{scene.seen.height}"}
        grid = place.window(area.top, area.left) if place else None
        sheet = Sheet(area.height, area.width, grid, self.trained.classes, self.trained.name, facts)
        files = self.files(image)
        names = [kind for kind in files if kind not in (COLOR, VECTOR)]
        with self._part(image, scene, names, sheet) as (part, room):
            scene.fill(part, self.trained.nets, names, self.progress)
            write_outputs(part, sheet, files, self.options.wanted, room)
        return files[IDS]

    def _scene(self, raster: Raster, grid: Grid | None) -> Scene:
        area = self.options.area or Area(0, 0, raster.width, raster.height)
        if not area.within(raster.height, raster.width):
            size = f"{raster.width}x{raster.height}"
            raise ValueError(f"{raster.path}: --area {' '.join(map(str, area))}: accepted is a part of {size} pixels")
        scale = self.trained.scale.for_image(raster.path, grid)
        tiling = self._tiling(max(scale.of(raster.height, raster.width)))
        return Scene(raster, seen(raster, scale, tiling.size), area, tiling, self.options.tta)

    def _tiling(self, side: int) -> Tiling:
        """The tiles of an image of this side; one that any tile holds needs no estimate of the memory."""
        if side <= TILES[-1] and self.options.tile is None and self.options.overlap is None:
            return Tiling(max(TILES[-1], *(net.divisor for net in self.trained.nets)), 0)
        return self._of_networks

    @cached_property
    def _of_networks(self) -> Tiling:
        return tiling_for(self.trained.nets, self.options.tile, self.options.overlap)

    @contextmanager
    def _part(self, image: Path, scene: Scene, names: Sequence[str], sheet: Sheet) -> Iterator[tuple]:
        """Where finished rows are kept, on the disk if there is something to resume, and a folder for other files."""
        there = self.out.exists()
        self.out.mkdir(parents=True, exist_ok=True)
        classes = len(self.trained.classes)
        shapes = {n: (scene.area.width, classes) if n == PROBABILITIES else (scene.area.width,) for n in names}
        try:
            if scene.rows_of_tiles == 1:
                with tempfile.TemporaryDirectory(prefix=".map.", dir=self.out) as room:
                    yield InMemory(), Path(room)
                return
            facts = [self.trained.digest, scene.area, sorted(names), sheet.tags, sheet.grid]
            digest = digest_of(facts, image, *beside([image])[image])
            with kept(self.out, image.stem, digest, shapes, scene.area.height) as (part, folder):
                yield part, folder
        finally:
            if not there:
                remove_if_empty(self.out)


def _check_place(image: Path) -> None:
    """Raises ValueError where a map would lose the place of its image, which is no transform."""
    if not installed("rasterio"):
        if _is_placed(image):
            optional("rasterio", f"{image}: a map with the place of its image")
        return
    points: Sequence[object] = ()
    with suppress(ValueError), opened(image) as source:  # whoever reads it says why it can't be read
        points = source.gcps[0]
    if points:
        raise ValueError(f"{image}: {POINTS}")


def _is_placed(image: Path) -> bool:
    """True if a TIFF says where it lies."""
    with suppress(Exception), large_pictures(), Image.open(image) as picture:  # whoever reads it says what is wrong
        return any(tag in getattr(picture, "tag_v2", {}) for tag in GEOTIFF)
    return False


def _grid(image: Path) -> Grid | None:
    """The place of an image on the earth; None where it tells none, is turned as it is read, or rasterio is missing."""
    if not installed("rasterio"):
        return None
    with suppress(Exception), large_pictures(), Image.open(image) as picture:  # it may be none of Pillow's, or broken
        if picture.getexif().get(ORIENTATION, 1) != 1:
            return None
    try:
        with opened(image) as source:
            return grid_of(source)
    except ValueError:
        return None
