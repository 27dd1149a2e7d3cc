"""Writes the checkpoints of a training while it goes on: from a copy, in a thread."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import pytorch_lightning as pl

from seglab.profile.phases import during
from seglab.run.checkpoints import drop_optimizer, link, write
from seglab.run.folder import Run
from seglab.run.snapshot import Snapshot

log = logging.getLogger(__name__)


class CheckpointWriter:
    """Writes `last.ckpt`, and `best.ckpt` as the same file; the one before stays as `previous.ckpt`.

    At every moment of this, and after a full disk, the names that exist hold whole checkpoints. A checkpoint is on the
    disk after the next `save` or `wait`; what kept it from there is raised by them.
    """

    def __init__(self, run: Run):
        self.run = run
        self._snapshot = Snapshot()
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future[None] | None = None
        self._best_may_be_whole = True

    def save(self, trainer: pl.Trainer, first: Callable[[], bool] = lambda: False) -> None:
        """Takes a copy to be written. Of processes that train together all call it, and one writes.

        `first`: what the thread writes before it, and whether that makes this checkpoint the best.
        """
        with during(trainer, "checkpoint"):
            content = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            if trainer.is_global_zero:
                self.wait()
                self._writing = self._thread.submit(self._write, self._snapshot.take(content), first)

    def wait(self) -> None:
        """Returns when all checkpoints are on the disk."""
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Waits for the thread. After an error of the training one of the thread is only logged."""
        try:
            self.wait()
        except Exception as e:
            if error is None:
                raise
            log.error("the last checkpoint was not written: %s", e)
        finally:
            self._thread.shutdown()

    def _write(self, content: dict[str, Any], first: Callable[[], bool]) -> None:
        run = self.run
        making = run.last_checkpoint.with_suffix(".making")
        best = first()
        try:
            if not best and self._best_may_be_whole:
                drop_optimizer(run.best_checkpoint, run, making)
            self._snapshot.wait()
            write(content, making)
            if best:
                link(making, run.best_checkpoint)
            self._best_may_be_whole = best
            if run.last_checkpoint.exists():
                link(run.last_checkpoint, run.previous_checkpoint)
            making.replace(run.last_checkpoint)
        finally:
            making.unlink(missing_ok=True)
