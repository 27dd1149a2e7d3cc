"""A run's TensorBoard file: curves over epochs, pictures, a row of hparams; and how a part of it is taken over."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from seglab.run.board_tables import FINAL, LAYOUT, PR_CURVES, precision_recall, table_row, tag

PATTERN = "events.out.tfevents.*"
OWN = (*FINAL, LAYOUT)
"""Beginnings of the tags that no run takes over from another."""


class Board:
    """Writes one event file in `folder`: how to group curves, and the first `epochs` of the event files in `source`."""

    def __init__(self, folder: Path, source: Path, epochs: int, layout: Summary):
        old = sorted(folder.glob(PATTERN))
        self._writer = SummaryWriter(str(folder))
        self._write(layout)
        self._taken_over: set[str] = set()
        for event in events_until(source, epochs):
            self._writer._get_file_writer().event_writer.add_event(event)
            self._taken_over |= {value.tag for value in event.summary.value}
        self._writer.flush()
        for path in old:
            path.unlink()

    def complete(self, rows: Iterable[Mapping[str, float]]) -> None:
        """The points of epochs taken over that their file lacks: scores that are newer than the run."""
        for row in rows:
            new = {k: v for k, v in row.items() if "/" in k and tag(k) not in self._taken_over}
            self.add_scores(int(row["epoch"]), new)

    def add_scores(self, epoch: int, values: Mapping[str, float]) -> None:
        """A point on each curve; an absent class has none."""
        for name, value in values.items():
            if value == value:
                self._writer.add_scalar(tag(name), value, epoch)

    def add_pictures(self, epoch: int, pictures: Iterable[tuple[str, Image.Image]], group: str = "samples") -> None:
        """Named pictures, each on its own slider over epochs."""
        for name, picture in pictures:
            self._writer.add_image(f"{group}/{name}", np.asarray(picture), epoch, dataformats="HWC")

    def add_final(
        self,
        epoch: int,
        settings: Mapping[str, str | float],
        values: Mapping[str, float],
        pictures: Iterable[tuple[str, Image.Image]],
    ) -> None:
        """The run's row in the hparams table, and its last maps."""
        headings = {f"final/{name}": name.replace("/", " ").replace("_", " ") for name in values}
        for summary in table_row(settings, headings):
            self._write(summary)
        self.add_scores(epoch, {f"final/{name}": value for name, value in values.items()})
        self.add_pictures(epoch, pictures, "final")

    def add_pr_curves(self, epoch: int, class_names: Iterable[str], histogram: np.ndarray) -> None:
        """Precision against recall of each class that occurs, from counts `[K,bins,2]` of its probability."""
        for name, counts in zip(class_names, histogram, strict=True):
            if counts[:, 1].any():
                tp, fp, tn, fn, precision, recall = curve = precision_recall(counts)
                at = {"global_step": epoch, "num_thresholds": curve.shape[1]}
                self._writer.add_pr_curve_raw(f"{PR_CURVES}{name}", tp, fp, tn, fn, precision, recall, **at)

    def flush(self) -> None:
        """Everything so far is in the file."""
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _write(self, summary: Summary) -> None:
        self._writer._get_file_writer().add_summary(summary)


def events_until(folder: Path, epochs: int) -> Iterator[Event]:
    """The events of a folder up to an epoch, each once, without those that are a run's own.

    A file that was cut short by a kill is read as far as it goes.
    """
    seen = set()
    for path in sorted(folder.glob(PATTERN)):
        for event in LegacyEventFileLoader(str(path)).Load():
            tags = tuple(value.tag for value in event.summary.value)
            if not tags or tags[0].startswith(OWN) or event.step > epochs or (tags, event.step) in seen:
                continue
            seen.add((tags, event.step))
            yield event
