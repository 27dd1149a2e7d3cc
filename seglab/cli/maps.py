"""Commands that use a trained network."""

import argparse
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from time import perf_counter

from seglab.cli.command import CHECKPOINT, TRUST, Command, check_folder, factor, tell, whole
from seglab.machine.imports import without_collection
from seglab.pages.text import printable


def predict(a: argparse.Namespace) -> None:
    with without_collection():
        from seglab.predict.output.files import images_in
        from seglab.predict.output.outputs import Wanted
        from seglab.predict.predict import Options, write_maps
        from seglab.predict.tiles.tiling import Area
        from seglab.predict.trained import device_of, load
        from seglab.run.folder import Run

    check_folder(a.out)
    runs, images = _runs_and_images([a.run, *a.images])
    if not images:
        raise ValueError("no image is given; accepted are run folders, and then images or folders of images")
    images = images_in(images)
    trained = load([Run(run) for run in runs], a.checkpoint, device_of(a.device), a.scale, a.resolution)
    wanted = Wanted(a.confidence, a.probabilities, a.vector, a.simplify)
    area = Area(*a.area) if a.area else None
    done = Done(len(images))
    maps = write_maps(trained, images, a.out, Options(wanted, a.tile, a.overlap, a.tta, area), done.pixels)
    if trained.scale.words:
        print(f"seglab: {trained.scale.words}", file=sys.stderr)
    done.show(maps)


def _runs_and_images(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """The first path and those after it that hold a config are runs, the others images."""
    count = 1
    while count < len(paths) and (paths[count] / "config.yaml").is_file():
        count += 1
    return paths[:count], paths[count:]


class Done:
    """Images and pixels that are mapped, and how fast: as a bar in a terminal, else as one line at the end."""

    def __init__(self, images: int):
        from tqdm import tqdm

        self._bar = tqdm(desc="maps", unit="px", unit_scale=True, leave=False, disable=not sys.stderr.isatty())
        self._images = images
        self._mapped = 0
        self._pixels = 0
        self._began = perf_counter()

    def pixels(self, count: int) -> None:
        """Notes pixels that are done."""
        self._pixels += count
        self._bar.update(count)

    def show(self, maps: Iterable[Path]) -> None:
        """Prints the paths of maps as they are made."""
        with self._bar:
            for path in maps:
                self._mapped += 1
                self._bar.set_postfix_str(f"{self._mapped} of {self._images} images")
                self._bar.write(printable(str(path)), file=sys.stdout)
        megapixels = self._pixels / 1e6
        rate = f"{megapixels:.3g} Mpx, {megapixels / (perf_counter() - self._began):.3g} Mpx/s"
        print(f"seglab: {self._mapped} of {self._images} images, {rate}", file=sys.stderr)


def length(text: str) -> float:
    """A number from 0, of a command line."""
    if not 0 <= float(text) < float("inf"):
        raise ValueError(text)
    return float(text)


def evaluate(a: argparse.Namespace) -> None:
    from tqdm import tqdm

    with without_collection():
        from seglab.predict.evaluation.evaluate import Wish, evaluate
        from seglab.predict.evaluation.notes import table
        from seglab.run.folder import Run

    check_folder(a.out)
    wish = Wish(a.split, a.data, a.checkpoint, a.tile, a.out, a.again, a.device, a.original)
    bar = partial(tqdm, desc="scoring", leave=False, disable=not sys.stderr.isatty())
    found = evaluate(Run(a.run), wish, lambda images, count: bar(images, total=count))
    for note in found.notes:
        tell(f"seglab: {note}", file=sys.stderr)
    tell("\n".join([table(found.content), *map(str, found.files)]))


COMMANDS = {
    "evaluate": Command(
        evaluate,
        "scores of a run on its validation or test split",
        "seglab evaluate outputs/default/<run> --data path/to/root --split test",
        {
            "run": {"type": Path, "help": "a run folder"},
            "--data": {"type": Path, "help": "root of the images and labels; else their decoded copy in the cache"},
            "--split": {"default": "val", "choices": ["val", "test", "all"], "help": "the images that are scored"},
            "--checkpoint": CHECKPOINT,
            "--tile": {"type": whole, "metavar": "N", "help": "by tiles of N x N pixels, as large images are mapped"},
            "--out": {"type": Path, "help": "folder of the scores; evaluation/ in the run folder unless given"},
            "--again": {"action": "store_true", "help": "also a test split that was scored before"},
            "--original": {
                "action": "store_true",
                "help": "against the labels at their own size, where the run resized them; needs --data",
            },
            "--device": {
                "default": "auto",
                "help": "cpu, cuda or cuda:1; default: as the run was trained, if it is here",
            },
            "--trust": TRUST,
        },
    ),
    "predict": Command(
        predict,
        "maps of images of any size",
        "seglab predict outputs/default/<run> scene.tif --out maps",
        {
            "run": {"type": Path, "help": "a run folder"},
            "images": {"type": Path, "nargs": "+", "help": "more run folders, then images and folders of images"},
            "--out": {
                "type": Path,
                "default": Path("maps"),
                "help": "folder for the maps: class ids and coloured; default: maps",
            },
            "--checkpoint": CHECKPOINT,
            "--device": {"default": "auto", "help": "cpu, cuda or cuda:1; default: a GPU where there is one"},
            "--confidence": {"action": "store_true", "help": "also the probability of each pixel's class"},
            "--probabilities": {"action": "store_true", "help": "also the probability of every class"},
            "--vector": {"action": "store_true", "help": "also the regions as polygons, in a GeoPackage"},
            "--simplify": {
                "type": length,
                "metavar": "UNITS",
                "help": "size of the corners that borders lose, in units of the CRS; default: a pixel",
            },
            "--area": {
                "type": int,
                "nargs": 4,
                "metavar": ("LEFT", "TOP", "WIDTH", "HEIGHT"),
                "help": "only this part, in pixels of the image",
            },
            "--tta": {
                "default": "none",
                "choices": ["none", "flips", "d4"],
                "help": "mean over the image and its mirrored forms, or all eight ways to lay it",
            },
            "--tile": {"type": whole, "metavar": "PIXELS", "help": "side of a tile; default: what fits into 2 GB"},
            "--overlap": {"type": int, "metavar": "PIXELS", "help": "pixels that two tiles share"},
            "--resolution": {
                "choices": ["resample", "keep"],
                "help": "an image of other metres a pixel than the run's: resize it, or map it as it is",
            },
            "--scale": {
                "type": factor,
                "metavar": "FACTOR",
                "help": "resizes images first; default: as in training",
            },
            "--trust": TRUST,
        },
    ),
}
