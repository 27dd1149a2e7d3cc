"""A GPU: speeds with and without loading, what a step waits for, and whether two trainings are equal.

Each row is measured in a process of its own: python -m tests.benchmarks.gpu TASK OVERRIDE ... prints its numbers.
One that fails is named in the table, and the others go on.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch

from seglab.benchmark.benchmark import benchmark
from seglab.run import checkpoints
from seglab.run.folder import DONE, runs_of
from seglab.task.task import SegmentationTask
from seglab.training.recorder import Recorder
from seglab.training.row import train_row
from tests.benchmarks.config import composed
from tests.benchmarks.growth import copied
from tests.benchmarks.step import beside
from tests.benchmarks.timing import Row

SIZES = {224: 64, 512: 16, 1024: 4}
"""Images of a step by their size: at most 4.2 million pixels, which a GPU of 16 GB holds in float32."""

PRECISIONS = ("32", "bf16-mixed", "16-mixed")
BATCHES = 8
"""Batches of an epoch, at least."""

WATCHED = range(3, 7)
"""Steps of an epoch in which waits are counted."""

LONGEST = 1800
"""Seconds after which a row has failed."""

Numbers = dict[str, float | str]
"""What a task found, by what is added to the name of its row."""


@dataclass(frozen=True)
class Job:
    """A row, or several: its name, the task that measures it, and the overrides of its config."""

    what: str
    task: str
    overrides: tuple[str, ...]
    unit: str = ""
    more_is_better: bool = False


def rows(
    peer: ModuleType | None, script: Path | None, tiles: Path, seeds: int, trainer: str = "gpu", sizes: Any = SIZES
) -> Iterator[Row]:
    """All rows of a GPU, DeepLabV3+ with cross-entropy."""
    for how in ("plain", "tuned") if script else ():
        size, count = next(iter(sizes.items()))
        where = "cuda" if trainer == "gpu" else trainer
        name = f"{trainer}: step, {size} x {count}, peer {how}"
        try:
            yield beside(name, [how], "ours", script, 1, "5", where, str(size), str(count))
        except Exception as e:
            yield Row.failed(name, e)
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs(tiles, Path(folder), trainer, sizes):
            try:
                for suffix, number in in_a_process(job).items():
                    yield Row(f"{job.what}{suffix}", None, number, job.unit, job.more_is_better)
            except Exception as e:
                yield Row.failed(job.what, e)


def jobs(tiles: Path, folder: Path, trainer: str, sizes: dict[int, int]) -> Iterator[Job]:
    """Every measurement, on the tiles as often as it needs them."""
    found = len(list((tiles / "data").glob("*.png")))
    first = next(iter(sizes))
    for size, count in sizes.items():
        root = folder / f"images{size}"
        copied(tiles, root, -(-BATCHES * count * 5 // 4 // found))  # a fifth validates
        common = ("data=folder", f"data.root={root}", f"data.size={size}", f"data.cache_dir={folder}/cache")
        common += (f"data.batch_size={count}", f"trainer={trainer}", f"output_dir={folder}/out")
        name = f"{trainer}: training step, {size} x {count}"
        for precision in PRECISIONS:
            yield Job(f"{name}, {precision}", "speed", (*common, f"precision={precision}"), "images/s", True)
        for more in ("compile=true", "trainer.deterministic=true"):
            yield Job(f"{name}, auto, {more}", "speed", (*common, more), "images/s", True)
        if size == first:
            few = tuple(o for o in common if "batch_size" not in o)
            yield Job(f"{trainer}: waits in a training step", "waits", (*few, "epochs=1", "data.batch_size=4"))
            for option in ("false", "true"):
                equal = (*few, "epochs=2", "data.batch_size=8", f"trainer.deterministic={option}")
                yield Job(f"{trainer}: two trainings, trainer.deterministic={option}", "equal", equal)


def in_a_process(job: Job) -> Numbers:
    """What a job's task prints in a process of its own. Raises RuntimeError with the last line of its errors."""
    command = [sys.executable, "-m", __name__, job.task, *job.overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST)
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
    return json.loads(done.stdout.splitlines()[-1])


def speed(*overrides: str) -> Numbers:
    """Images per second of a training step, with one batch that stays on the device and with batches of the loader."""
    found = benchmark(composed(*overrides, "benchmark=true"))
    if found["status"] != DONE:
        raise RuntimeError(found["reason"])
    step = found["speeds"]["train"]
    return {", without loading": step.without_loading, ", with loading": step.images_per_second}


def waits(*overrides: str) -> Numbers:
    """How often the host waits for the GPU in a step, of which torch warns, and the line of the first wait."""
    with warnings.catch_warnings(record=True) as seen, watched_steps():
        warnings.simplefilter("always")
        trained(*overrides)
    places = [f"{w.filename}:{w.lineno}" for w in seen if "synchronizing CUDA operation" in str(w.message)]
    numbers: Numbers = {"": len(places) / len(WATCHED)}
    return numbers | ({", the first of them": places[0]} if places else {})


@contextmanager
def watched_steps() -> Iterator[None]:
    """Context in which torch warns of every wait in the steps of WATCHED, from the batch to all that follows a step."""
    start, end = SegmentationTask.on_train_batch_start, Recorder.on_train_batch_end

    def begun(self: SegmentationTask, batch: Any, batch_idx: int) -> None:
        if batch_idx == WATCHED.start:
            torch.cuda.set_sync_debug_mode("warn")
        start(self, batch, batch_idx)

    def ended(self: Recorder, trainer: Any, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        end(self, trainer, task, outputs, batch, batch_idx)
        if batch_idx == WATCHED[-1]:
            torch.cuda.set_sync_debug_mode("default")

    with (
        patch.object(SegmentationTask, "on_train_batch_start", begun),
        patch.object(Recorder, "on_train_batch_end", ended),
    ):
        yield


def equal(*overrides: str) -> Numbers:
    """Hashes of the weights of two trainings, and the largest difference between them."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = (trained(*overrides, f"output_dir={folder}/{i}") for i in (1, 2))
    largest = max(float((first[k].double() - second[k].double()).abs().max()) for k in first)
    hashes = [hashed(weights) for weights in (first, second)]
    same = "equal" if hashes[0] == hashes[1] else "not equal"
    return {"": f"{same}: {' and '.join(dict.fromkeys(hashes))}", ", largest difference": largest}


def hashed(weights: dict[str, torch.Tensor]) -> str:
    """The first letters of a hash of all bits."""
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(weights[name].contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


def trained(*overrides: str) -> dict[str, torch.Tensor]:
    """The weights after a training. Raises RuntimeError with the reason of one that fails."""
    config = composed(*overrides)
    (results,) = train_row(config, lambda *_: None)
    if results["status"] != DONE:
        raise RuntimeError(results["reason"])
    (run,) = runs_of(Path(config.output_dir) / config.study)
    return {k: v.clone() for k, v in checkpoints.state_dict(run.last_checkpoint).items()}


TASKS: dict[str, Callable[..., Numbers]] = {"speed": speed, "waits": waits, "equal": equal}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](*sys.argv[2:])))
