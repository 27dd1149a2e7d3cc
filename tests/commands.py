"""train.py in a process of its own, forked from one that has all imports behind it: no start pays for them twice."""

import atexit
import gc
import io
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO

from tests.conftest import ROOT, command

WARM = ("pytest", "train", "seglab.sweep.plan", "seglab.sweep.job", "tests.conftest", "tests.commands")
LAUNCHERS = ("hydra_plugins.hydra_joblib_launcher._core", "hydra_plugins.hydra_submitit_launcher.submitit_launcher")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([*WARM, *LAUNCHERS])


class Started:
    """A process that runs a function as a script: what it prints is here, and what it ends with."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, environment: dict[str, str]):
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (as long as the process)
        reader, writer = FORKS.Pipe(duplex=False)
        errors = Connection(os.dup(self._said.fileno()), readable=False)
        self._printed: TextIO = os.fdopen(os.dup(reader.fileno()))
        self._process = FORKS.Process(target=_as_script, args=(writer, errors, environment, function, arguments))
        self._process.start()
        for end in (reader, writer, errors):
            end.close()

    def wait_for(self, text: str) -> None:
        """Returns when a line with this text is printed."""
        for line in self._printed:
            if text in line:
                return
        raise AssertionError(f"{text!r} never came: {self.finished()}")

    def stop_reading(self) -> None:
        """Closes the pipe into which it prints."""
        self._printed.close()
        self._printed = io.StringIO()

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def runs(self) -> bool:
        return self._process.is_alive()

    def finished(self, seconds: float = 240) -> tuple[int, str, str]:
        """Exit code, and what else was printed and said on stderr; what does not end in time is killed."""
        late = threading.Timer(seconds, self._process.kill)
        late.start()
        try:
            with self._printed, self._said:
                printed = self._printed.read()  # until the last process that may print there has ended
                self._process.join()
                self._said.seek(0)
                assert self._process.exitcode is not None
                return self._process.exitcode, printed, self._said.read()
        finally:
            late.cancel()


def _as_script(printed: Connection, said: Connection, environment: dict[str, str], function, arguments) -> None:
    os.dup2(printed.fileno(), 1)
    os.dup2(said.fileno(), 2)
    printed.close()
    said.close()
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell began with `&`
    try:
        function(*arguments)
    finally:  # as Python ends, which a fork does in another order: joblib's processes would be waited for in vain
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()


def as_typed(arguments: list[str]) -> None:
    """`python train.py ...`: as `__main__`, so that launchers send it to their processes as they do for users."""
    sys.path.insert(0, str(ROOT))
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")


def start(images: Path, out: Path, *overrides: str, function: Callable[..., Any] = as_typed, **more: str) -> Started:
    """Starts train.py on the small images; `function` may do something before."""
    environment = {k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"}
    environment |= {"SEGLAB_CACHE": str(images.parent / "cache"), "OMP_NUM_THREADS": "1", **more}
    return Started(function, command(images, out, overrides), environment=environment)
