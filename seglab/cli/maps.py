"""Commands that use a trained network."""

import argparse
import sys
from pathlib import Path

from seglab.cli.command import TRUST, Command, factor, tell
from seglab.pages.text import printable

CHECKPOINT = {"default": "last", "choices": ["last", "best"], "help": "the last epoch or the best"}


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


def export(a: argparse.Namespace) -> None:
    from seglab.predict.export import Wish
    from seglab.predict.export import export as exported
    from seglab.predict.qgis import Tiles
    from seglab.run.folder import Run

    if a.program is None and (a.tile, a.overlap, a.resolution) != (None, None, None):
        raise ValueError("--tile, --overlap and --resolution: accepted with --for qgis")
    asked = {"size": a.tile, "overlap": a.overlap, "resolution": a.resolution}
    tiles = Tiles(**{k: v for k, v in asked.items() if v is not None}) if a.program else None
    for line in exported(Run(a.run), a.out, Wish(a.format, a.checkpoint, tiles, a.int8, a.data)):
        tell(line)


COMMANDS = {
    "export": Command(
        export,
        "one file with which other programs compute a run's maps",
        "seglab export outputs/default/<run> --out model.onnx",
        {
            "run": {"type": Path, "help": "a run folder"},
            "--out": {"type": Path, "required": True, "metavar": "FILE", "help": "the file"},
            "--format": {"default": "onnx", "choices": ["onnx", "torch_export"], "help": "ONNX or torch's own"},
            "--checkpoint": CHECKPOINT,
            "--int8": {"action": "store_true", "help": "8-bit weights and activations, measured beside float"},
            "--data": {"type": Path, "metavar": "ROOT", "help": "root of the run's images; else their decoded copy"},
            "--for": {"choices": ["qgis"], "dest": "program", "help": "tiles and metadata of GeoDeep and Deepness"},
            "--tile": {"type": int, "metavar": "PIXELS", "help": "for qgis: side of a tile; default 512"},
            "--overlap": {"type": int, "metavar": "PERCENT", "help": "for qgis: of neighbouring tiles; default 15"},
            "--resolution": {
                "type": factor,
                "metavar": "CM",
                "help": "for qgis: centimetres a pixel; default: as the training images",
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
            "images": {"type": Path, "nargs": "+", "help": "8-bit pictures"},
            "--out": {"type": Path, "default": Path("maps"), "help": "folder for the maps: class ids and coloured"},
            "--checkpoint": CHECKPOINT,
            "--scale": {
                "type": factor,
                "metavar": "FACTOR",
                "help": "resizes images first; default: as in training",
            },
            "--trust": TRUST,
        },
    ),
}
