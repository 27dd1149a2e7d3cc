"""Commands on a study: tables and pages of what its run folders hold."""

import argparse
import sys
from pathlib import Path

from seglab.cli.command import TRUST, Command, check_folder, tell


def grid(a: argparse.Namespace) -> None:
    from seglab.report import write_grid

    tell(write_grid(a.study), end="")


def report(a: argparse.Namespace) -> None:
    from seglab.report.page import write_report

    if a.data and not a.data.is_dir():
        raise ValueError(f"--data {a.data}: no such folder; accepted is one that holds data/ and label/")
    tell(str(write_report(a.study, a.out, a.audit, a.data)))


def compare(a: argparse.Namespace) -> None:
    from seglab.report.paired.along import along, told
    from seglab.report.paired.folds import pooled
    from seglab.report.paired.outcomes import Scored, outcomes_of

    found, missing = outcomes_of(a.study, Scored(a.split, a.content, a.original))
    whole, lacking = pooled(found)
    for sentence in missing + lacking:
        tell(f"seglab: {sentence}", file=sys.stderr)
    tell(told(along(whole, a.along, a.score)))


def pack(a: argparse.Namespace) -> None:
    from seglab.run.packed import pack

    check_folder(a.out)
    tell("\n".join(map(str, pack(a.study, a.out))))


def unpack(a: argparse.Namespace) -> None:
    from seglab.run.packed import unpack

    check_folder(a.out)
    tell(f"{len(unpack(a.packed, a.out))} run folders in {a.out}")


COMMANDS = {
    "compare": Command(
        compare,
        "cells that differ in one setting alone, paired by image and seed",
        "seglab compare outputs/norm --along model.batch_norm",
        {
            "study": {"type": Path, "nargs": "+", "help": "folders of run folders"},
            "--along": {
                "required": True,
                "metavar": "KEY",
                "help": "the setting, such as model.batch_norm; or several, joined by commas",
            },
            "--score": {"default": "miou", "metavar": "KEY", "help": "miou (the default), accuracy, iou/<class> ..."},
            "--split": {"default": "val", "choices": ["val", "test", "all"], "help": "the images that are compared"},
            "--content": {
                "default": "",
                "metavar": "HASH",
                "help": "scores that seglab evaluate --data made of data of this content, or of this beginning of it",
            },
            "--original": {"action": "store_true", "help": "scores that seglab evaluate --original made"},
        },
    ),
    "grid": Command(
        grid,
        "a study's grid, also as grid.csv and grid.md",
        "seglab grid outputs/default",
        {"study": {"type": Path, "help": "a folder of run folders"}},
    ),
    "pack": Command(
        pack,
        "a study as three small text files, without weights and pictures",
        "seglab pack outputs/default --out packed/default",
        {
            "study": {"type": Path, "help": "a folder of run folders"},
            "--out": {"type": Path, "required": True, "help": "the folder of the three files"},
        },
    ),
    "unpack": Command(
        unpack,
        "run folders of a packed study, for the other commands on studies",
        "seglab unpack packed/default --out outputs/default",
        {
            "packed": {"type": Path, "help": "a folder that seglab pack made"},
            "--out": {"type": Path, "required": True, "help": "a new folder for the run folders"},
        },
    ),
    "report": Command(
        report,
        "one page with everything that a study's run folders say",
        "seglab report outputs/default",
        {
            "study": {"type": Path, "help": "a folder of run folders"},
            "--out": {"type": Path, "help": "the page; report.html in the study folder unless given"},
            "--audit": {"type": Path, "help": "an audit's folder, for the labellers' ceiling; else <study>/audit"},
            "--data": {"type": Path, "help": "root of the images and labels; else their decoded copy in the cache"},
            "--trust": TRUST,
        },
    ),
}
