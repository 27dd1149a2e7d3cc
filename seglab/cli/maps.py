"""Commands that use a trained network."""

import argparse
import sys
from pathlib import Path

from seglab.cli.command import TRUST, Command, factor
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


COMMANDS = {
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
