"""Commands that use a trained network."""

import argparse
import sys
from functools import partial
from pathlib import Path

from seglab.cli.command import TRUST, Command, factor, tell, whole
from seglab.pages.text import printable


def predict(a: argparse.Namespace) -> None:
    from tqdm import tqdm

    from seglab.predict.predict import write_maps
    from seglab.predict.scale import scale_of
    from seglab.run.folder import Run

    scale = scale_of(Run(a.run), a.scale)
    maps = write_maps(Run(a.run), a.images, a.out, a.checkpoint, scale)
    if scale.words:
        print(f"seglab: {scale.words}", file=sys.stderr)
    for path in tqdm(maps, "maps", len(a.images), leave=False, disable=not sys.stderr.isatty()):
        tqdm.write(printable(str(path)))


def evaluate(a: argparse.Namespace) -> None:
    from tqdm import tqdm

    from seglab.predict.evaluate import Wish, evaluate
    from seglab.predict.evaluation_notes import table
    from seglab.run.folder import Run

    wish = Wish(a.split, a.data, a.checkpoint, a.tile, a.out, a.again, a.device)
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
            "--checkpoint": {"default": "last", "choices": ["last", "best"], "help": "the last epoch or the best"},
            "--tile": {"type": whole, "metavar": "N", "help": "by tiles of N x N pixels, as large images are mapped"},
            "--out": {"type": Path, "help": "folder of the scores; evaluation/ in the run folder unless given"},
            "--again": {"action": "store_true", "help": "also a test split that was scored before"},
            "--device": {"default": "cpu", "choices": ["cpu", "cuda"], "help": "where it computes"},
            "--trust": TRUST,
        },
    ),
    "predict": Command(
        predict,
        "maps of images of any size",
        "seglab predict outputs/default/<run> scene.tif --out maps",
        {
            "run": {"type": Path, "help": "a run folder"},
            "images": {"type": Path, "nargs": "+", "help": "8-bit pictures"},
            "--out": {"type": Path, "default": Path("maps"), "help": "folder for the maps: class ids and coloured"},
            "--checkpoint": {"default": "last", "choices": ["last", "best"], "help": "the last epoch or the best"},
            "--scale": {
                "type": factor,
                "metavar": "FACTOR",
                "help": "resizes images first; default: as in training",
            },
            "--trust": TRUST,
        },
    ),
}
