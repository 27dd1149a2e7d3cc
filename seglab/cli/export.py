"""The command that hands a trained network to other programs."""

import argparse
from pathlib import Path

from seglab.cli.command import CHECKPOINT, TRUST, Command, factor, tell, whole
from seglab.machine.imports import without_collection


def export(a: argparse.Namespace) -> None:
    with without_collection():
        from seglab.predict.export.export import Wish
        from seglab.predict.export.export import export as exported
        from seglab.predict.export.qgis import Tiles
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
            "--format": {"default": "onnx", "choices": ["onnx", "torch_export"], "help": "ONNX, or torch's own"},
            "--checkpoint": CHECKPOINT,
            "--int8": {"action": "store_true", "help": "8-bit weights and activations, measured beside float"},
            "--data": {"type": Path, "metavar": "ROOT", "help": "root of the run's images; else their decoded copy"},
            "--for": {"choices": ["qgis"], "dest": "program", "help": "tiles and metadata of GeoDeep and Deepness"},
            "--tile": {"type": whole, "metavar": "PIXELS", "help": "for qgis: side of a tile; default 512"},
            "--overlap": {"type": int, "metavar": "PERCENT", "help": "for qgis: of neighbouring tiles; default 15"},
            "--resolution": {
                "type": factor,
                "metavar": "CM",
                "help": "for qgis: centimetres a pixel; default: as the training images",
            },
            "--trust": TRUST,
        },
    ),
}
