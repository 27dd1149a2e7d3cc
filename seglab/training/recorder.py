"""What is written while a row trains: rows, curves, checkpoints, cells at their marks, and a line for who watches."""

import logging
import time
from typing import Any

import pytorch_lightning as pl
from PIL import Image

from seglab.data import SegmentationData
from seglab.machine.signals import Interrupted, asked_to_stop, take_back
from seglab.maps import evidence
from seglab.maps.scoring import predict
from seglab.models.inference import for_inference
from seglab.pages.pictures import panel
from seglab.profile.phases import during
from seglab.report.page import update
from seglab.run import checkpoints
from seglab.run.board import Board
from seglab.task.task import SegmentationTask
from seglab.training.cell import Cell
from seglab.training.gauges import Gauges

log = logging.getLogger(__name__)

TOGETHER = 20
"""Steps after which processes that train together ask each other who has to stop: a GPU waits for the answer."""


class Recorder(pl.Callback):
    """Writes the folder of `cell`, and of each of the shorter `others` when its shared epochs are trained.

    Of several processes that train together only the first writes: the others have no `board`.
    """

    def __init__(
        self,
        cell: Cell,
        others: list[Cell],
        data: SegmentationData,
        board: Board | None,
        found: checkpoints.Found | None,
    ):
        self.cell, self.others, self.data, self.board, self.found = cell, others, data, board, found
        self.gauges = Gauges()
        self._has_evidence = False
        self._saved_at = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        take_back()
        self._started = time.perf_counter()
        if self.found and self.found.batches == 0:  # within an epoch there is no cell to give
            self._fill_others(task)  # a kill may have come between a checkpoint and the cells that it gives

    def on_train_epoch_start(self, trainer: pl.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        self._started = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, task: SegmentationTask, *_: Any) -> None:  # type: ignore[override]
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if last:
            return
        now = trainer.world_size == 1 or trainer.global_step % TOGETHER == 0
        stop = now and _any(trainer, bool(asked_to_stop()))
        if stop or self._is_due(trainer.global_step) or (now and _any(trainer, self._is_late)):
            checkpoints.save(trainer, self.cell.run)
            self._saved_at = time.monotonic()
        if stop:
            raise Interrupted(f"{asked_to_stop()} in epoch {task.epoch + 1}")

    def on_validation_start(self, trainer: pl.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        self._train_seconds = time.perf_counter() - self._started

    def on_train_epoch_end(self, trainer: pl.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        with during(trainer, "metrics"):
            scores, epoch = task.epoch_scores(), task.epoch
        if self.board:
            self._record(trainer, task, self.board, scores, epoch)
        checkpoints.save(trainer, self.cell.run, best=self.cell.run.best(epoch)["epoch"] == epoch)
        self._saved_at = time.monotonic()
        self._fill_others(task)
        if epoch < self.cell.epochs and _any(trainer, bool(asked_to_stop())):
            raise Interrupted(f"{asked_to_stop()} after epoch {epoch}")

    def on_train_end(self, trainer: pl.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        if self.board:  # here, since afterwards Lightning takes the network from its device
            with during(trainer, "maps and counts"):
                self._give_evidence(self.cell, task)
            self._has_evidence = True

    def finish(self, task: SegmentationTask) -> None:
        """Ends the cell's own folder."""
        if self.board:
            if not self._has_evidence:
                self._give_evidence(self.cell, task)
            self.cell.finish(self.board, self._final_panels(self.cell), task.class_names)
            if report := update(self.cell.run.folder.parent, self.data):
                log.info("%s shows it", report)

    def _give_evidence(self, cell: Cell, task: SegmentationTask) -> None:
        config = self.cell.config
        evidence.record(cell.run.records, task.net, self.data, config["precision"], config["pr_curves"], task.device)

    def _final_panels(self, cell: Cell) -> list[tuple[str, Image.Image]]:
        """Name and panel of the fixed validation samples, from the maps that the cell keeps."""
        out = []
        for i in self.data.picture_indices(cell.config["pictures"]):
            (image, mask), name = self.data.cache[i], self.data.cache.names[i]
            prediction = cell.run.records.map(name)
            assert prediction is not None
            out.append((name, panel(image, mask, prediction, self.data.classes)))
        return out

    def panels(self, task: SegmentationTask) -> list[tuple[str, Image.Image]]:
        """Name and panel of the fixed validation samples, as the network sees them now."""
        out, net, precision = [], for_inference(task.net), self.cell.config["precision"]
        for i in self.data.picture_indices(self.cell.config["pictures"]):
            image, mask = self.data.cache[i]
            prediction = predict(net, image, task.device, precision)
            out.append((self.data.cache.names[i], panel(image, mask, prediction, self.data.classes)))
        return out

    def on_save_checkpoint(self, trainer: pl.Trainer, task: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        loop = trainer.fit_loop
        checkpoint["identity"] = self.cell.identity
        epochs = loop.epoch_progress.current.processed  # type: ignore[attr-defined]
        batches = loop.epoch_loop.batch_progress
        ended = batches.is_last_batch and batches.current.completed == batches.current.ready
        checkpoint["progress"] = {"epochs": epochs, "batches": 0 if ended else batches.current.ready}

    def _is_due(self, step: int) -> bool:
        steps = self.cell.config["checkpoint_every_steps"]
        return steps is not None and step % steps == 0

    @property
    def _is_late(self) -> bool:
        minutes = self.cell.config["checkpoint_every_minutes"]
        return minutes is not None and time.monotonic() - self._saved_at > 60 * minutes

    def _record(
        self, trainer: pl.Trainer, task: SegmentationTask, board: Board, scores: dict[str, float], epoch: int
    ) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        scores = {"epoch": epoch, **scores, "learning_rate": rate, **self.gauges.means()}
        images = len(self.data.indices[0])
        times = {"epoch": epoch, "seconds": self._train_seconds, "images": images}
        with during(trainer, "rows"):
            self.cell.run.add_epoch(scores, times)
        with during(trainer, "TensorBoard"):
            board.add_scores(epoch, {k: v for k, v in scores.items() if k != "epoch"})
            if epoch % self.cell.config["picture_every"] == 0:
                board.add_pictures(epoch, self.panels(task))
            board.flush()
        shown = (epoch, self.cell.epochs, scores["train/loss"], scores["val/loss"], scores["val/miou"])
        speed = images / self._train_seconds
        log.info("epoch %d/%d  loss %.4f  val loss %.4f  val mIoU %.4f  %.1f images/s", *shown, speed)

    def _fill_others(self, task: SegmentationTask) -> None:
        for other in self.others if self.board else ():
            if other.shared_epochs != task.epoch or other.run.done:
                continue
            found = checkpoints.Found(task.epoch, 0, self.cell.run.last_checkpoint, self.cell.run)
            board = other.start(found)
            if other.epochs == task.epoch:
                self._give_evidence(other, task)
                other.finish(board, self._final_panels(other), task.class_names)
                update(other.run.folder.parent, self.data)
                log.info("%s is done", other.run.folder)
            else:
                board.close()


def _any(trainer: pl.Trainer, here: bool) -> bool:
    """Whether it is so in any of the processes that train together."""
    return bool(trainer.strategy.reduce_boolean_decision(here, all=False)) if trainer.world_size > 1 else here
