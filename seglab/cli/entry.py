"""The command line of `seglab`: parses, calls one function, and ends with an exit code."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

import seglab
from seglab.cli import data, export, maps, study
from seglab.cli.command import FAILED, FAULTY, Command, tell

DESCRIPTION = "Looks at a data set before training, and at what finished runs left; training is train.py's."
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

COMMANDS: dict[str, Command] = dict(
    sorted({**data.COMMANDS, **study.COMMANDS, **maps.COMMANDS, **export.COMMANDS}.items())
)


def parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The command line of a table of commands."""
    raw = argparse.RawDescriptionHelpFormatter
    codes = "\n".join(f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items())
    out = argparse.ArgumentParser(
        "seglab", description=DESCRIPTION, epilog=f"exit codes:\n{codes}\n\n{COMPLETION}", formatter_class=raw
    )
    out.add_argument("--version", action="version", version=f"seglab {seglab.__version__}")
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
