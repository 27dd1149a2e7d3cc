"""Being asked to stop: Ctrl-C, SIGTERM, and the warning SIGUSR1 of a cluster end a training where it can go on."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(RuntimeError):
    """Somebody asked this process to stop, and everything is saved."""


_asked: list[str] = []  # of the process, not of a training: the jobs that follow in it must not start either


def asked_to_stop() -> str | None:
    """Name of the signal that asked this process to stop."""
    return _asked[0] if _asked else None


def ask_to_stop(reason: str) -> None:
    """What a signal does, for a reason of our own."""
    _asked.append(reason)


def forget() -> None:
    """A new beginning, for a process that outlives one command."""
    _asked.clear()


@contextmanager
def stopping_softly() -> Iterator[None]:
    """Within it the first signal is only noted, and a second Ctrl-C ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers; whoever started this one gets the signals
        return
    before = {number: signal.signal(number, _note) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _note(number: int, frame: FrameType | None) -> None:
    if _asked and number == signal.SIGINT:
        os._exit(130)  # what is on disk is whole at every moment
    _asked.append(signal.Signals(number).name)
    sys.stderr.write(f"\n{_asked[0]}: saving; Ctrl-C once more ends at once\n")
