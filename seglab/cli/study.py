"""Commands on a study: tables and pages of what its run folders hold."""

import argparse
from pathlib import Path

from seglab.cli.command import TRUST, Command, tell


def grid(a: argparse.Namespace) -> None:
    from seglab.report import write_grid

    tell(write_grid(a.study), end="")


def report(a: argparse.Namespace) -> None:
    from seglab.report.page import write_report

    if a.data and not a.data.is_dir():
        raise ValueError(f"--data {a.data}: no such folder; accepted is one that holds data/ and label/")
    tell(str(write_report(a.study, a.out, a.audit, a.data)))


COMMANDS = {
    "grid": Command(
        grid,
        "a study's grid, also as grid.csv and grid.md",
        "seglab grid outputs/default",
        {"study": {"type": Path, "help": "a folder of run folders"}},
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
