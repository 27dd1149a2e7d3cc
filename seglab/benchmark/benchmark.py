"""Speed of one combination on this machine: images per second, with and without loading the data."""

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
from seglab.config.parts import build_data, check_machine, check_parts
from seglab.config.schema import Config
from seglab.data import SegmentationData
from seglab.machine.environment import computing_device
from seglab.machine.files import remove_if_empty
from seglab.machine.isolation import isolated
from seglab.machine.processes import first_gpu, gpu_of_its_own, usable_cores
from seglab.machine.signals import Interrupted, asked_to_stop, stopping_softly
from seglab.pages.markdown import markdown_table
from seglab.run.folder import DONE, FAILED, INTERRUPTED
from seglab.training.fit import task_of, trainer_of
from seglab.training.gauges import Gauges
from seglab.training.row import EXPECTED

WARM_UP = 4
"""Steps at the start that are not timed."""

BLOCKS = 3
"""Timed blocks of steps."""

SECONDS = 2.0
"""Planned length of a block, which has at least 3 steps."""

WITHOUT_END = 10**9
"""Length that Lightning is told, so that it does not fetch a batch ahead."""

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
    """Batches of a loader, over and over: blocks of loaded batches alternate with blocks of one held on the device.

    Each block is timed. A step ends when the next batch is requested. Blocks alternate, as a machine's speed drifts.
    """

    def __init__(self, data: SegmentationData, loader: Iterable[dict[str, Any]]):
        super().__init__()
        self.data = data
        self.loader = loader
        self.blocks: dict[str, list[tuple[int, int, float]]] = {way: [] for way in WAYS}  # images, steps, seconds
        self.size: tuple[int, ...] = ()  # of the masks, [B,H,W]
        self.peak = 0
        self._kept: dict[str, Any] | None = None

    def train_dataloader(self) -> "Feed":
        return self

    val_dataloader = train_dataloader

    def transfer_batch_to_device(self, batch: dict[str, Any], device: torch.device, dataloader_idx: int) -> Any:
        return self.data.transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        if "target" in batch:  # the held batch, which is ready
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
        reset_peak(self._device)  # not earlier: the memory for building the network is not measured
        start = self._now()
        yield next(batches)  # the last of the warm-up says how long a step takes
        steps = max(3, math.ceil(SECONDS / max(1e-6, self._now() - start)))
        for way in WAYS * BLOCKS:
            images = 0
            start = self._now()
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
    """Measures and prints one combination; returns its `speeds` or the `reason` of a failure. Writes no run folder."""
    try:
        with gpu_of_its_own(config.trainer) as trainer:
            gpu = first_gpu(trainer)
            config = here(config.but(trainer=trainer), torch.get_num_threads(), gpu or 0)
            check_machine(config)
            check_parts(config)
            data = build_data(config)
            if gpu is not None:
                data.supply.send_to(torch.device("cuda", gpu), min(usable_cores(), config.threads or 1))
            data.setup()
            with stopping_softly(), isolated(config.threads or 1, gpu):
                speeds, size = _measured(config, data)
    except EXPECTED as e:
        status = INTERRUPTED if isinstance(e, Interrupted) else FAILED
        return {"status": status, "reason": f"{type(e).__name__}: {e}".splitlines()[0]}
    finally:
        remove_if_empty(Path(config.output_dir).expanduser() / config.study)  # Hydra makes it
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
    task = task_of(config, feed.data)
    validation = {"limit_val_batches": 0} if stage == "train" else {}
    with trainer_of(config.but(epochs=1), [Gauges()], changes=validation) as trainer:
        if stage == "train":
            trainer.fit(task, datamodule=feed)
        else:
            trainer.validate(task, datamodule=feed, verbose=False)


def title(config: Config, size: Sequence[int]) -> str:
    """Title of a measurement: model, loss, batch, precision and device."""
    device = computing_device(config.accelerator, config.threads, first_gpu(config.trainer) or 0)
    batch = f"{size[0]} images of {size[1]} x {size[2]}"
    return f"{config.names.model}, {config.names.loss}, {batch} a step, precision {config.precision}, {device}"


def table(speeds: Mapping[str, Speed]) -> list[list[str]]:
    """Header and rows of one combination."""
    rows = [["", *COLUMNS]]
    return rows + [[NAMES[stage], *_numbers(speed)] for stage, speed in speeds.items()]


def sweep_table(found: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Header and a row for each combination; its status if it has no numbers."""
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


def reset_peak(device: torch.device) -> None:
    """Restarts the measurement of `peak_bytes`."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # memory that was freed before no longer counts
        if trim:
            trim(0)
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # man 5 proc: resets the peak resident set size


def peak_bytes(device: torch.device) -> int:
    """Highest memory use: allocated on a GPU, else resident memory of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
