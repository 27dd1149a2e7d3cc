"""The `seglab` command: a thin door to what a run folder can give."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seglab.pages.text import printable

DESCRIPTION = "Looks at a data set before training, and at what finished runs left; training is train.py's."
FAILED, FAULTY = 1, 3
INTERRUPTED, CLOSED = 130, 141  # what a shell gives a program that SIGINT or SIGPIPE ended
EXIT_CODES = {
    0: "done",
    FAILED: "it could not be done; one line on the error output says why",
    2: "a wrong command line",
    FAULTY: "audit: done, and found faults that training would refuse",
    INTERRUPTED: "stopped by Ctrl-C",
    CLOSED: "whoever read the output stopped reading, as `| head` does",
}
COMPLETION = 'completion: pip install argcomplete, then eval "$(register-python-argcomplete seglab)"'


@dataclass(frozen=True)
class Command:
    """`call(arguments)` does it and returns an exit code, None for 0; `arguments` are those of `add_argument`."""

    call: Callable[[argparse.Namespace], int | None]
    help: str
    example: str
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def tell(text: str, **options: Any) -> None:
    """Prints a text in which names and reasons may come from anybody."""
    print(printable(text, keep="\n\t"), **options)


def grid(a: argparse.Namespace) -> None:
    from seglab.report import write_grid

    tell(write_grid(a.study), end="")


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


def report(a: argparse.Namespace) -> None:
    from seglab.report.page import write_report

    if a.data and not a.data.is_dir():
        raise ValueError(f"--data {a.data}: no such folder; accepted is one that holds data/ and label/")
    tell(str(write_report(a.study, a.out, a.audit, a.data)))


def factor(text: str) -> float:
    """A number above 0, of a command line."""
    if not 0 < float(text) < float("inf"):
        raise ValueError(text)
    return float(text)


TRUST = {
    **{"action": "append", "default": [], "metavar": "PACKAGE"},
    "help": "also make models and readers of this package that a run folder names: its code then runs",
}

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
    "grid": Command(
        grid,
        "a study's grid, also as grid.csv and grid.md",
        "seglab grid outputs/default",
        {"study": {"type": Path, "help": "a folder of run folders"}},
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


def parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The command line of a table of commands."""
    raw = argparse.RawDescriptionHelpFormatter
    codes = "\n".join(f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items())
    out = argparse.ArgumentParser(
        "seglab", description=DESCRIPTION, epilog=f"exit codes:\n{codes}\n\n{COMPLETION}", formatter_class=raw
    )
    groups = out.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, command in commands.items():
        sub = groups.add_parser(name, help=command.help, epilog=f"example: {command.example}", formatter_class=raw)
        sub.description = f"{command.help[0].upper()}{command.help[1:]}."
        for argument, options in command.arguments.items():
            sub.add_argument(argument, **options)
        sub.set_defaults(call=command.call)
    return out


def called(parsed: argparse.Namespace) -> int | None:
    """Calls the command, which may make objects of the packages that the user trusts."""
    if not getattr(parsed, "trust", None):
        return parsed.call(parsed)
    from seglab.config.constructors import trusting

    with trusting(parsed.trust):
        return parsed.call(parsed)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses, calls one function, and ends with an exit code; an expected error is one line."""
    line = parser(COMMANDS)
    if "_ARGCOMPLETE" in os.environ:  # set by the shell that asks for completions
        import argcomplete

        argcomplete.autocomplete(line)
    parsed, rest = line.parse_known_args(arguments)
    if rest and not (hasattr(parsed, "overrides") and all("=" in word and word[0] != "-" for word in rest)):
        line.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # overrides behind an option, which argparse leaves over
        parsed.overrides += rest
    try:
        code = called(parsed)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python's own last flush complains
        code = CLOSED
    except KeyboardInterrupt:
        print("seglab: stopped by Ctrl-C", file=sys.stderr)
        code = INTERRUPTED
    except (ValueError, OSError) as e:
        from seglab.config.messages import full_disk

        tell(f"seglab: {full_disk(e) or e}", file=sys.stderr)
        code = FAILED
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
