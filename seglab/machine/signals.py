"""Requests to stop: Ctrl-C, SIGTERM, and a cluster's warnings end a training so that it can resume."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Interrupted(RuntimeError):
    """A stop was requested, and everything is saved."""


_ours: list[Callable[[int, FrameType | None], None]] = []  # handlers, the innermost last
_asked: list[str] = []  # of the process, not of a training: the jobs that follow in it must not start either


def asked_to_stop() -> str | None:
    """Name of the signal that asked this process to stop."""
    return _asked[0] if _asked else None


def ask_to_stop(reason: str) -> None:
    """Requests a stop as a signal does, for a reason of our own."""
    _asked.append(reason)


def forget() -> None:
    """Forgets all requests, for a process that outlives one command."""
    _asked.clear()


def take_back() -> None:
    """Sets our handlers again after a library has set others.

    Lightning's handlers wait for processes that wait for each other.
    """
    for number in SIGNALS if _ours else ():
        signal.signal(number, _ours[-1])


@contextmanager
def stopping_softly(pass_on: bool = False) -> Iterator[None]:
    """Context in which the first signal is only noted, and a second Ctrl-C ends the process at once.

    `pass_on`: the child processes are asked to stop, too. The handler of a library (submitit's, which requeues a job)
    is called at the end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers; whoever started this one gets the signals
        return
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if _asked and number == signal.SIGINT:
            os._exit(130)  # what is on disk is whole at every moment
        caught.append(number)
        ask_to_stop(signal.Signals(number).name)
        sys.stderr.write(f"\n{_asked[0]}: saving; Ctrl-C once more ends at once\n")
        for child in _children() if pass_on else ():
            os.kill(child, signal.SIGTERM)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    _ours.append(note)
    try:
        yield
    finally:
        _ours.pop()
        for number, handler in before.items():
            signal.signal(number, handler)
    for first in caught[:1]:
        handler = before[signal.Signals(first)]
        theirs = getattr(handler, "__module__", None) != __name__  # not our own, one level up
        if callable(handler) and theirs and handler is not signal.default_int_handler:
            handler(first, None)


def _children() -> list[int]:
    """Process ids of the children; none if the system has no list of them."""
    lists = Path("/proc/self/task").glob("*/children")
    return [int(pid) for path in lists for pid in path.read_text().split()]
