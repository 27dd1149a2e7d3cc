"""How fast one combination trains and scores here: images per second, with and without loading the data."""

import contextlib
import ctypes
import math
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch

from seglab.config.identity import here
from seglab.config.parts import build_data, build_task, check_parts
from seglab.config.schema import Config
from seglab.data import SegmentationData
from seglab.machine.environment import computing_device
from seglab.machine.isolation import isolated
from seglab.machine.signals import Interrupted, asked_to_stop, stopping_softly
from seglab.pages.markdown import markdown_table
from seglab.run.folder import DONE, FAILED, INTERRUPTED
from seglab.training.fit import trainer_of
from seglab.training.gauges import Gauges
from seglab.training.row import EXPECTED

WARM_UP, BLOCKS, SECONDS = 4, 3, 2.0
"""Steps that are not timed, blocks of steps that are, and how long a block should last; it has 3 steps at least."""

WITHOUT_END = 10**9
"""Length that Lightning is told; else it would fetch a batch ahead."""

WAYS = ("loaded", "held")
NAMES = {"train": "training step", "evaluate": "validation step"}
COLUMNS = ("images/s", "without loading", "s/step", "peak memory")


@dataclass(frozen=True)
class Speed:
    """Medians over the blocks, and the highest memory use: resident on a CPU, allocated on a GPU."""

    images_per_second: float
    without_loading: float
    seconds_per_step: float
    peak_bytes: int


class Feed(pl.LightningDataModule):
    """The batches of a loader over and over, and in turns one held on the device, until it has timed how fast they go.

    The step of a batch is over when the next one is asked for. In turns, since a machine's speed drifts.
    """

    def __init__(self, data: SegmentationData, loader: Iterable[dict[str, Any]]):
        super().__init__()
        self.data, self.loader = data, loader
        self.blocks: dict[str, list[tuple[int, int, float]]] = {way: [] for way in WAYS}  # images, steps, seconds
        self.size: tuple[int, ...] = ()  # of the masks, [B,H,W]
        self.peak = 0
        self._kept: dict[str, Any] | None = None

    def train_dataloader(self) -> "Feed":
        return self

    val_dataloader = train_dataloader

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        if "target" in batch:  # the held one, made into tensors already
            return batch
        ready = self.data.on_after_batch_transfer(batch, dataloader_idx)
        self._kept = self._kept or ready
        return ready

    def __len__(self) -> int:
        return WITHOUT_END

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self.peak:  # Lightning asks again after the end
            return
        batches = self._batches()
        for _ in range(WARM_UP - 1):
            yield next(batches)
        reset_peak(self._device)  # not before: what building the network took is not asked for
        start = self._now()
        yield next(batches)  # the last of the warm-up says how long a step takes
        steps = max(3, math.ceil(SECONDS / max(1e-6, self._now() - start)))
        for way in WAYS * BLOCKS:
            images, start = 0, self._now()
            for _ in range(steps):
                batch = next(batches) if way == "loaded" else self._held()
                images += len(batch["mask"])
                yield batch
            self.blocks[way].append((images, steps, self._now() - start))
        self.peak = peak_bytes(self._device)

    def _batches(self) -> Iterator[dict[str, Any]]:
        while True:
            for batch in self.loader:
                self.size = self.size or tuple(batch["mask"].shape)
                self._stop_if_asked()
                yield batch

    def _held(self) -> dict[str, Any]:
        self._stop_if_asked()
        assert self._kept is not None
        return self._kept

    @staticmethod
    def _stop_if_asked() -> None:
        if asked_to_stop():
            raise Interrupted(f"{asked_to_stop()} while measuring")

    def _now(self) -> float:
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)
        return time.perf_counter()

    @property
    def _device(self) -> torch.device:
        assert self.trainer is not None
        return self.trainer.strategy.root_device

    @property
    def speed(self) -> Speed:
        """Medians over the blocks."""
        loaded, held = (median(images / seconds for images, _, seconds in self.blocks[way]) for way in WAYS)
        return Speed(loaded, held, median(s / steps for _, steps, s in self.blocks["loaded"]), self.peak)


def benchmark(config: Config) -> dict[str, Any]:
    """Measures and prints one combination; its numbers under `speeds`, or why there are none. Writes no run folder."""
    config = here(config, torch.get_num_threads())
    try:
        check_parts(config)
        data = build_data(config)
        data.setup()
        with stopping_softly(), isolated(config.threads or 1):
            speeds, size = _measured(config, data)
    except EXPECTED as e:
        status = INTERRUPTED if isinstance(e, Interrupted) else FAILED
        return {"status": status, "reason": f"{type(e).__name__}: {e}".splitlines()[0]}
    finally:
        leave_nothing(config)
    out = {"status": DONE, "title": title(config, size), "speeds": speeds}
    print(f"\n{out['title']}\n\n{markdown_table(table(speeds))}\n")
    return out


def _measured(config: Config, data: SegmentationData) -> tuple[dict[str, Speed], tuple[int, ...]]:
    """Speeds of the training and of the validation step, and the shape of a batch of masks."""
    feeds = {"train": Feed(data, data.train_dataloader()), "evaluate": Feed(data, data.val_dataloader()[0])}
    for stage, feed in feeds.items():
        _run(config, feed, stage)
    return {stage: feed.speed for stage, feed in feeds.items()}, feeds["train"].size


def _run(config: Config, feed: Feed, stage: str) -> None:
    task = build_task(config)
    validation = {"limit_val_batches": 0} if stage == "train" else {}
    with trainer_of(config.but(epochs=1), [Gauges()], changes=validation) as trainer:
        if stage == "train":
            trainer.fit(task, datamodule=feed)
        else:
            trainer.validate(task, datamodule=feed, verbose=False)


def title(config: Config, size: Sequence[int]) -> str:
    """What was measured, where."""
    device = computing_device(config.accelerator, config.threads)
    batch = f"{size[0]} images of {size[1]} x {size[2]}"
    return f"{config.names.model}, {config.names.loss}, {batch} a step, precision {config.precision}, {device}"


def table(speeds: Mapping[str, Speed]) -> list[list[str]]:
    """Header and rows of one combination."""
    rows = [["", *COLUMNS]]
    return rows + [[NAMES[stage], *_numbers(speed)] for stage, speed in speeds.items()]


def sweep_table(found: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Header and a row for the result of each combination; of one without numbers, why."""
    rows = [["", *(f"{name.split()[0]} {column}" for name in NAMES.values() for column in COLUMNS)]]
    for label, result in found.items():
        if result["status"] == DONE:
            numbers = [n for speed in result["speeds"].values() for n in _numbers(speed)]
        else:
            numbers = [result["status"], *[""] * (len(rows[0]) - 2)]
        rows.append([label, *numbers])
    return rows


def _numbers(s: Speed) -> list[str]:
    speeds = [f"{s.images_per_second:.1f}", f"{s.without_loading:.1f}", f"{s.seconds_per_step:.3f}"]
    return [*speeds, f"{s.peak_bytes / 2**30:.2f} GiB"]


def leave_nothing(config: Config) -> None:
    """Removes the study's folder, which Hydra makes, unless something is in it."""
    study = Path(config.output_dir).expanduser() / config.study
    with contextlib.suppress(OSError):
        study.rmdir()


def reset_peak(device: torch.device) -> None:
    """Lets `peak_bytes` forget what was before."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # what was freed before is no longer in use
        if trim:
            trim(0)
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # man 5 proc: resets the peak resident set size


def peak_bytes(device: torch.device) -> int:
    """The highest memory use: allocated on a GPU, else resident, of the process as a whole."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
