"""What is written while a run trains: metrics.csv, TensorBoard, checkpoints, pictures, and a line for who watches."""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from seglab.data import SegmentationData
from seglab.pictures import panel
from seglab.runs import Run
from seglab.task import SegmentationTask, predict

log = logging.getLogger(__name__)


class Recorder(pl.Callback):
    """Writes one run's folder, on the first process only; keeps nothing but the best score seen."""

    def __init__(self, run: Run, data: SegmentationData, identity: str, picture_count: int, picture_every: int):
        self.run, self.data, self.identity = run, data, identity
        self.picture_count, self.picture_every = picture_count, picture_every
        self.best: dict[str, float] = {"epoch": 0, "miou": float("-inf")}
        self.scores: dict[str, float] = {}
        self.train_seconds = 0.0
        self._board: SummaryWriter | None = None

    @property
    def board(self) -> SummaryWriter:
        """The run's TensorBoard writer, opened at its first use."""
        self._board = self._board or SummaryWriter(str(self.run.folder))
        return self._board

    def on_train_epoch_start(self, trainer: pl.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        self._started = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        self._train_seconds = time.perf_counter() - self._started

    def on_train_epoch_end(self, trainer: pl.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        self.scores = task.epoch_scores()
        epoch = trainer.current_epoch + 1
        if not trainer.is_global_zero:
            return
        self.train_seconds += self._train_seconds
        learning_rate = trainer.optimizers[0].param_groups[0]["lr"]
        timing = {"seconds": self._train_seconds, "images_per_second": len(self.data.indices[0]) / self._train_seconds}
        self.run.add_epoch({"epoch": epoch, **self.scores, "learning_rate": learning_rate} | timing)
        self._to_board(epoch, self.scores | {"learning_rate": learning_rate})
        if self.picture_count and (epoch % self.picture_every == 0 or epoch == trainer.max_epochs):
            for name, picture in self.panels(task):
                self.board.add_image(f"samples/{name}", np.asarray(picture), epoch, dataformats="HWC")
        self._save(trainer, epoch)
        log.info(
            "epoch %d/%d  loss %.4f  val loss %.4f  val mIoU %.4f  %.1f images/s",
            epoch, trainer.max_epochs, self.scores["train/loss"], self.scores["val/loss"], self.scores["val/miou"],
            timing["images_per_second"],
        )  # fmt: skip

    def panels(self, task: SegmentationTask) -> list[tuple[str, Image.Image]]:
        """Name and panel of the fixed validation samples, as the network sees them now."""
        out = []
        for i in self.data.picture_indices(self.picture_count):
            image, mask = self.data.cache[i]
            prediction = predict(task.net, image, task.device)
            out.append((self.data.cache.names[i], panel(image, mask, prediction, self.data.classes)))
        return out

    def finish(self, task: SegmentationTask, config: Mapping[str, Any]) -> None:
        """Pictures, and the hparams table's row with the final scores; then the event file is closed."""
        for name, picture in self.panels(task):
            picture.save(self.run.pictures / f"{name}.png", optimize=True)
        epochs = config["epochs"]
        final = {f"final/{k}": self.scores[f"val/{k}"] for k in ("miou", "dice", "accuracy")}
        settings = {**config["names"], "epochs": epochs, "seed": config["seed"], "lr": config["optimizer"]["lr"]}
        for summary in hparams(settings, final):
            self.board._get_file_writer().add_summary(summary)
        self._to_board(epochs, final)
        self.board.close()

    def on_save_checkpoint(self, trainer: pl.Trainer, task: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["identity"] = self.identity

    def _to_board(self, epoch: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            if value == value:  # an absent class has no point on its curve
                self.board.add_scalar(_board_name(name), value, epoch)

    def _save(self, trainer: pl.Trainer, epoch: int) -> None:
        making = self.run.last_checkpoint.with_suffix(".making")
        trainer.save_checkpoint(making)
        making.replace(self.run.last_checkpoint)
        if self.scores["val/miou"] > self.best["miou"]:
            self.best = {"epoch": epoch, "miou": self.scores["val/miou"]}
            _link(self.run.last_checkpoint, self.run.best_checkpoint)


def _board_name(name: str) -> str:
    """`val/miou` -> `miou/val`, so that TensorBoard lays the stages of one score side by side."""
    stage, _, score = name.partition("/")
    return f"{score}/{stage}" if score and stage != "final" else name


def _link(source: Path, name: Path) -> None:
    """A second name for a file that is only ever replaced, never written into: no copy."""
    making = name.with_suffix(".making")
    making.unlink(missing_ok=True)
    os.link(source, making)
    making.replace(name)
