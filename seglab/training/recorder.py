"""Writes what a row leaves while it trains: rows, curves, checkpoints, cells at their marks, a line for the watcher."""

import logging
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from PIL import Image

from seglab.data import SegmentationData
from seglab.machine.signals import Interrupted, asked_to_stop, take_back
from seglab.maps.scoring import Scored
from seglab.pages.pictures import panel, preview
from seglab.profile.phases import during
from seglab.run import checkpoints
from seglab.run.board import Board
from seglab.run.checkpoint_writer import CheckpointWriter
from seglab.task.task import SegmentationTask
from seglab.training.cell import Cell
from seglab.training.gauges import Gauges
from seglab.training.keeper import Keeper

log = logging.getLogger(__name__)

TOGETHER = 20
"""Steps after which processes that train together ask each other who has to stop, and whose loss is no number.

A GPU waits for the answer.
"""

CellDone = Callable[[Cell, SegmentationData], None]
"""Called when a cell has its results."""


class Recorder(pl.Callback):
    """Writes the folder of `cell`, and of each of the shorter `others` when its shared epochs are trained.

    Of several processes that train together only the first writes rows: the others have no `board`.
    """

    def __init__(
        self,
        cell: Cell,
        others: list[Cell],
        data: SegmentationData,
        board: Board | None,
        found: checkpoints.Found | None,
        writer: CheckpointWriter,
        on_cell_done: CellDone,
    ):
        self.cell = cell
        self.others = others
        self.data = data
        self.board = board
        self.found = found
        self.writer = writer
        self.on_cell_done = on_cell_done
        self.gauges = Gauges()
        self.keeper = Keeper(data, cell.config)
        self._saved_at = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        take_back()
        self._started = time.perf_counter()
        if self.found and self.found.batches == 0:  # within an epoch there is no cell to give
            self._fill_others(task)  # a kill may have come between a checkpoint and the cells that it gives

    def on_train_epoch_start(self, trainer: pl.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        self._started = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, task: SegmentationTask, *_: Any) -> None:  # type: ignore[override]
        batches = trainer.fit_loop.epoch_loop.batch_progress
        if batches.is_last_batch or batches.current.ready % trainer.accumulate_grad_batches:
            return  # a checkpoint holds no gradients that are half added up
        now = trainer.world_size == 1 or trainer.global_step % TOGETHER == 0
        if now and trainer.world_size > 1:
            task.look_for_not_finite()
        stop = now and _any(trainer, bool(asked_to_stop()))
        if stop or self._is_due(trainer.global_step) or (now and _any(trainer, self._is_late)):
            self.writer.save(trainer)
            self._saved_at = time.monotonic()
        if stop:
            self.writer.wait()
            raise Interrupted(f"{asked_to_stop()} in epoch {task.epoch + 1}")

    def on_validation_start(self, trainer: pl.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        task.look_for_not_finite()  # of weights that are no numbers no map is kept
        self._train_seconds = time.perf_counter() - self._started
        epoch = task.epoch + 1
        ends = [c for c in (self.cell, *(o for o in self.others if o.shared_epochs == o.epochs)) if c.epochs == epoch]
        self.keeper.begin(ends[0].run.records if ends else None, self._shows(epoch))

    def on_validation_batch_end(  # type: ignore[override]
        self,
        trainer: pl.Trainer,
        task: SegmentationTask,
        outputs: dict[str, Scored],
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if dataloader_idx == 0:
            with during(trainer, "maps and counts"):
                self.keeper.add(batch, outputs["scored"])

    def on_validation_end(self, trainer: pl.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        with during(trainer, "maps and counts"):
            self.keeper.end(trainer.world_size)

    def on_train_epoch_end(self, trainer: pl.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        with during(trainer, "metrics"):
            scores, counts = task.epoch_scores()
        row = self._record(trainer, task, self.board, scores, counts) if self.board else lambda: False
        self.writer.save(trainer, row)
        self._saved_at = time.monotonic()
        self._fill_others(task)
        if task.epoch < self.cell.epochs and _any(trainer, bool(asked_to_stop())):
            self.writer.wait()
            raise Interrupted(f"{asked_to_stop()} after epoch {task.epoch}")

    def finish(self, task: SegmentationTask) -> None:
        """Ends the cell's own folder."""
        self.writer.wait()
        if self.board:
            self._end(self.cell, self.board, task)

    def on_save_checkpoint(self, trainer: pl.Trainer, task: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        loop = trainer.fit_loop
        checkpoint["identity"] = self.cell.identity.key
        epochs = loop.epoch_progress.current.processed  # type: ignore[attr-defined]
        batches = loop.epoch_loop.batch_progress
        ended = batches.is_last_batch and batches.current.completed == batches.current.ready
        checkpoint["progress"] = {"epochs": epochs, "batches": 0 if ended else batches.current.ready}

    def _shows(self, epoch: int) -> bool:
        return epoch % self.cell.config.picture_every == 0

    def _is_due(self, step: int) -> bool:
        steps = self.cell.config.checkpoint_every_steps
        return steps is not None and step % steps == 0

    @property
    def _is_late(self) -> bool:
        minutes = self.cell.config.checkpoint_every_minutes
        return minutes is not None and time.monotonic() - self._saved_at > 60 * minutes

    def _record(
        self,
        trainer: pl.Trainer,
        task: SegmentationTask,
        board: Board,
        scores: dict[str, float],
        counts: dict[str, Any],
    ) -> Callable[[], bool]:
        """Shows an epoch. Returns what writes its row, and tells whether it is the best so far."""
        epoch = task.epoch
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        numbers = {"epoch": epoch, **scores, "learning_rate": rate, **self.gauges.means()}
        images = len(self.data.samples)
        times = {"epoch": epoch, "seconds": self._train_seconds, "images": images}
        with during(trainer, "TensorBoard"):
            board.add_scores(epoch, {k: v for k, v in numbers.items() if k != "epoch"})
            if self._shows(epoch):
                board.add_pictures(epoch, self._panels(self.keeper.maps))
            board.flush()
        shown = (epoch, self.cell.epochs, scores["train/loss"], scores["val/loss"], scores["val/miou"])
        speed = images / self._train_seconds
        log.info("epoch %d/%d  loss %.4f  val loss %.4f  val mIoU %.4f  %.1f images/s", *shown, speed)

        def row() -> bool:
            self.cell.run.add_epoch(numbers, times, counts, list(self.data.classes))
            return self.cell.run.best(epoch)["epoch"] == epoch

        return row

    def _fill_others(self, task: SegmentationTask) -> None:
        for other in self.others if self.board else ():
            if other.shared_epochs != task.epoch or other.run.done:
                continue
            self.writer.wait()  # a cell is given a checkpoint that is on the disk
            found = checkpoints.Found(task.epoch, 0, self.cell.run.last_checkpoint, self.cell.run)
            board = other.start(found)
            if other.epochs == task.epoch:
                self._end(other, board, task)
                log.info("%s is done", other.run.folder)
            else:
                board.close()

    def _end(self, cell: Cell, board: Board, task: SegmentationTask) -> None:
        if self.keeper.kept is not cell.run.records:  # a kill came between its last epoch and this
            self.keeper.score(cell.run.records, task.net, task.device)
        maps = {name: cell.run.records.map(name) for name in self.keeper.pictures}
        cell.finish(board, self._panels(maps))
        self.on_cell_done(cell, self.data)

    def _panels(self, maps: dict[str, Any]) -> list[tuple[str, Image.Image]]:
        """Name and panel of the fixed validation samples."""
        out = []
        for name, i in self.keeper.pictures.items():
            image, mask = self.data.cache[i]
            shown = preview(image, self.data.value_range)
            out.append((name, panel(shown, mask, maps[name], self.data.classes)))
        return out


def _any(trainer: pl.Trainer, here: bool) -> bool:
    """True if it is so in any of the processes that train together."""
    return bool(trainer.strategy.reduce_boolean_decision(here, all=False)) if trainer.world_size > 1 else here
