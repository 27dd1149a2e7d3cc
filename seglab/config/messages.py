"""One line for every error that a user can cause."""

import errno
import logging
import os
import re
import shlex
import shutil
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from seglab.config.schema import did_you_mean
from seglab.machine.signals import ask_to_stop, asked_to_stop
from seglab.run.folder import DONE, INTERRUPTED

NOBODY_READS = "the end of its output"
"""The reason of a stop where whoever read the output stopped reading, as `| head` does."""

CLOSED = 141
"""The exit code that a shell gives a program which SIGPIPE ended."""


class Output(logging.StreamHandler):
    """Handler that asks the training to stop, as Ctrl-C does, when nobody reads the output any more."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], BrokenPipeError):
            return super().handleError(record)
        speak_to_nobody()
        ask_to_stop(NOBODY_READS)


def speak_to_nobody() -> None:
    """Lets go of an output that is closed; else Python's own last flush complains."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _of_thread(ended: threading.ExceptHookArgs) -> None:
    """Says nothing of a thread that a full disk ended: the training ends of it, too, in one line."""
    if not full_disk(ended.exc_value):
        threading.__excepthook__(ended)


@contextmanager
def closed_output() -> Iterator[None]:
    """Raises SystemExit of code 141 where the output was closed meanwhile."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        speak_to_nobody()
        raise SystemExit(CLOSED) from None
    except SystemExit as e:
        if asked_to_stop() != NOBODY_READS:
            raise
        print(e.code, file=sys.stderr)
    if asked_to_stop() == NOBODY_READS:
        raise SystemExit(CLOSED)


def speak() -> None:
    """Sends log lines to the terminal, without the traces that a run's own log also holds."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # an `ü` in ASCII is no reason to fail
    threading.excepthook = _of_thread
    handler = Output(sys.stdout)
    handler.setLevel(logging.INFO)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    # of Hydra 1.3, which rightly checks conf/hydra/launcher against the plugins' own
    warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")


def one_line(error: Exception) -> str:
    """One line for what is wrong with a command and what would be accepted."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return f"{group}={choice}: no such {group}; {did_you_mean(choice, error.options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: {str(error).splitlines()[0]}"
    if sweep := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*)'", str(error)):
        return _needs_multirun(sweep[1])
    if full := full_disk(error):
        return full
    cause = error.__cause__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.full_key:
        known = [str(k) for k in cause.parent_node or () if k != "_target_"]
        return f"{cause.full_key}: no such key; {did_you_mean(str(cause.key), known)}"
    if "hydra_plugins.hydra_" in str(error):
        return "this launcher is an extra: pip install -e '.[cluster]'"
    return str(error) if isinstance(error, ValueError) else (str(error) or str(cause)).splitlines()[0]


def _needs_multirun(override: str) -> str:
    """The line for several values without `-m`."""
    key, _, value = override.partition("=")
    words = [word for word in shlex.split(command()) if word != "python"]
    if not words or not words[0].endswith("train.py"):  # another command, which has no -m
        return f"{override}: accepted is one value; one that holds a comma is {shlex.quote(f'{key}={value!r}')}"
    return f"{override}: a list of values needs -m: {shlex.join(['python', words[0], '-m', *words[1:]])}"


def reason(error: BaseException, folder: Path) -> str:
    """Why a training ended, as one line: of a loader's worker the cause, of a full disk the path and what is free."""
    text = str(error)
    if full := full_disk(error, folder):
        return full
    if "Original Traceback" in text:  # torch puts the trace of a worker into the message
        after = text[text.rindex("\n  File ") :].splitlines()[2:]
        cause = next((line for line in after if line and not line[0].isspace()), text.splitlines()[0])
        return f"{cause} (in a worker of the data loader)"
    killed = text.startswith("DataLoader worker") and error.__cause__
    return f"{type(error).__name__}: {text}{f': {error.__cause__}' if killed else ''}".splitlines()[0]


def full_disk(error: BaseException | None, folder: Path | None = None) -> str | None:
    """The line for a full disk: the path, `folder` unless the error names one, and what is free; None for others."""
    while error and not (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        error = error.__cause__ or error.__context__
    if not isinstance(error, OSError):
        return None
    named = error.filename2 or error.filename or folder  # the second is where a file is moved to
    if named is None:
        return f"the disk is full ({os.strerror(errno.ENOSPC)})"
    path = Path(named).absolute()
    there = next(p for p in (path, *path.parents) if p.exists())
    free = shutil.disk_usage(there).free / 1e6
    way = f"{free:.1f} MB are free; the same command goes on once there is more"
    return f"{path}: the disk is full, {way} ({os.strerror(errno.ENOSPC)})"


def ending(results: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a row has no score, and how to go on; None if it has."""
    for cell in results:
        if cell["status"] != DONE:
            go_on = f"\nto resume: {command()}" if cell["status"] == INTERRUPTED else ""
            return f"{cell['status']}: {cell['reason']}{go_on}"
    return None


COMMAND = "SEGLAB_COMMAND"
"""Environment variable by which a sweep tells the processes it starts what the user typed."""


def command() -> str:
    """The command as the user typed it."""
    return os.environ.get(COMMAND) or shlex.join(["python", *sys.argv])


@contextmanager
def telling_command() -> Iterator[None]:
    """Processes started meanwhile know what the user typed."""
    before = os.environ.get(COMMAND)
    os.environ[COMMAND] = command()
    try:
        yield
    finally:
        os.environ.pop(COMMAND)
        if before is not None:
            os.environ[COMMAND] = before
