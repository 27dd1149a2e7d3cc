"""Commands on a data set, before anything trains."""

import argparse
from pathlib import Path

from seglab.cli.command import FAULTY, TRUST, Command, tell


def audit(a: argparse.Namespace) -> int:
    from seglab.audit.audit import audit as found_in
    from seglab.audit.output import default_folder, write_audit

    if a.out and a.out.exists() and not a.out.is_dir():
        raise ValueError(f"--out {a.out}: is a file, accepted is a folder")
    found = found_in(a.overrides, a.run, a.checkpoint)
    if a.out and found.root.resolve() in (a.out.resolve(), *a.out.resolve().parents):
        raise ValueError(f"--out {a.out}: lies within the data set; accepted is a folder outside of {found.root}")
    for finding in found.findings:
        tell(f"{finding.level}: {finding.text}")
    tell(str(write_audit(found, a.out or default_folder(found))))
    return FAULTY if found.faults else 0


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
            "--checkpoint": {"default": "last", "choices": ["last", "best"], "help": "of the run"},
            "--trust": TRUST,
        },
    ),
    "example": Command(
        example,
        "draws georeferenced scenes with polygons as labels, to try the commands with",
        "seglab example example",
        {"out": {"type": Path, "help": "a new folder: scenes/, labels/, and new.tif without a label"}},
    ),
}
