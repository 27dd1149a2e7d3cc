"""Commands on a data set, before anything trains."""

import argparse
from pathlib import Path

from seglab.cli.command import CHECKPOINT, FAULTY, TRUST, Command, check_folder, tell
from seglab.machine.imports import without_collection


def audit(a: argparse.Namespace) -> int:
    with without_collection():
        from seglab.audit.audit import audit as found_in
        from seglab.audit.output import default_folder, write_audit

    check_folder(a.out)
    found = found_in(a.overrides, a.run, a.checkpoint)
    if a.out and found.root.resolve() in (a.out.resolve(), *a.out.resolve().parents):
        raise ValueError(f"--out {a.out}: lies within the data set; accepted is a folder outside of {found.root}")
    for finding in found.findings:
        tell(f"{finding.level}: {finding.text}")
    tell(str(write_audit(found, a.out or default_folder(found))))
    return FAULTY if found.faults else 0


def crop(a: argparse.Namespace) -> None:
    import sys

    from tqdm import tqdm

    from seglab.data.crops.crop import Cut, crop_scenes
    from seglab.data.crops.polygons import Drawing
    from seglab.data.crops.scenes import find_scenes
    from seglab.data.problems import some

    check_folder(a.out)
    scenes = find_scenes(a.scenes, a.labels, a.groups)
    drawing = Drawing(tuple(a.classes), a.class_column, a.layer, a.outside, a.all_touched)
    cut = Cut(a.size, a.stride, a.edge, a.drop_empty, tuple(a.void), drawing)
    with tqdm(desc="crops", disable=not sys.stderr.isatty(), leave=False) as bar:

        def tick(windows: int, of: int) -> None:
            bar.total = of
            bar.update(windows)

        done = crop_scenes(scenes, a.out, cut, tick)
    cut_of = {row.scene for row in done.rows}
    if without := [scene.name for scene in scenes if scene.group not in cut_of]:
        tell(f"no crop of {some(without)}", file=sys.stderr)
    dropped = f", {done.dropped} left out as empty" * bool(done.dropped)
    many = f"{_plural(len(done.rows), 'crop')} of {_plural(len(cut_of), 'scene')}{dropped}"
    tell(f"{a.out} is done: {many}" if done.before else f"{many} in {a.out}")


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def whole(text: str) -> int:
    """A number from 1, of a command line."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def share(text: str) -> float:
    """A share above 0 and at most 1, of a command line."""
    if not 0 < float(text) <= 1:
        raise ValueError(text)
    return float(text)


def void(text: str) -> int | str:
    """A value of labels, or a colour, of a command line."""
    from seglab.labels import rgb

    return "#{:02x}{:02x}{:02x}".format(*rgb(text)) if text.startswith("#") else int(text)


def example(a: argparse.Namespace) -> None:
    from seglab.config.compose import composed
    from seglab.data.example import write_example

    for path in write_example(a.out, list(composed(["data=synthetic"]).classes)):
        tell(str(path))


COMMANDS = {
    "audit": Command(
        audit,
        "what is in a data set, and what is wrong with it",
        "seglab audit data.root=path/to/root data.size=224 --out audit",
        {
            "overrides": {"nargs": "*", "metavar": "KEY=VALUE", "help": "as of train.py; data=folder is the default"},
            "--out": {"type": Path, "help": "folder of the page and tables; default outputs/audit/<name of the root>"},
            "--run": {"type": Path, "help": "a finished run: also ranks the labels that it contradicts"},
            "--checkpoint": CHECKPOINT,
            "--trust": TRUST,
        },
    ),
    "crop": Command(
        crop,
        "cuts large scenes and their labels into crops",
        "seglab crop scenes --labels labels --size 1024 --out root",
        {
            "scenes": {"type": Path, "nargs": "+", "metavar": "SCENE", "help": "image files, or folders of them"},
            "--labels": {
                **{"type": Path, "nargs": "+", "default": [], "metavar": "LABEL"},
                "help": "files or folders: <scene>.* or <scene>_label.*, or one file of polygons for all scenes; "
                "default: <scene>_label.* beside each scene",
            },
            "--out": {"type": Path, "required": True, "help": "new folder for data/, label/ and scenes.csv"},
            "--groups": {
                **{"type": Path, "metavar": "CSV"},
                "help": "table name,scene: scenes whose grounds overlap share a scene, so that no split parts them",
            },
            "--size": {"type": whole, "default": 1024, "metavar": "PIXELS", "help": "side of a crop; default 1024"},
            "--stride": {"type": whole, "metavar": "PIXELS", "help": "from one crop to the next; default: the size"},
            "--edge": {
                **{"default": "drop", "choices": ["drop", "shift", "keep"]},
                "help": "crops that reach beyond the scene: left out (default), moved back to its border, or cut there",
            },
            "--drop-empty": {
                **{"type": share, "nargs": "?", "const": 1.0, "metavar": "SHARE"},
                "help": "leaves out crops of which at least this share, default 1, is void, transparent or no data",
            },
            "--void": {
                **{"type": void, "nargs": "+", "default": [], "metavar": "VALUE"},
                "help": "label values, or colours #rrggbb, that also count as void; they stay as they are",
            },
            "--classes": {
                **{"nargs": "+", "default": [], "metavar": "NAME"},
                "help": "of polygons: class names, the first is drawn as 0",
            },
            "--class-column": {"default": "class", "metavar": "COLUMN", "help": "of polygons: names or ids of classes"},
            "--layer": {"help": "of polygons, in a file of several layers"},
            "--outside": {
                "metavar": "NAME",
                "help": "of polygons: the class, or void, of pixels in none; must be given",
            },
            "--all-touched": {
                **{"action": "store_true"},
                "help": "of polygons: draw every pixel that one touches, not only those whose centre it holds",
            },
        },
    ),
    "example": Command(
        example,
        "draws georeferenced scenes with polygons, to try it all",
        "seglab example example",
        {"out": {"type": Path, "help": "a new folder: scenes/, labels/, and new.tif without a label"}},
    ),
}
