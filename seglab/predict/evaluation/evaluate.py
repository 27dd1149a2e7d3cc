"""A run and a split -> its scores, computed as validation computes them, and kept in files."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seglab.config.foreign import check_model
from seglab.config.read import of_data, read
from seglab.data.batches.loaders import scored_at_once
from seglab.machine.environment import computing_device
from seglab.machine.isolation import isolated
from seglab.machine.memory import free_memory
from seglab.predict.evaluation.counting import Counted, Counts, at_own_size, tiled_images, whole_images
from seglab.predict.evaluation.dataset import cache_of, data_of, positions
from seglab.predict.evaluation.notes import ONCE, notes
from seglab.predict.tiles.memory import bytes_per_pixel, tiling_for
from seglab.predict.trained import checkpoint_of, device_of, precision_on, ready, trained_network
from seglab.run import checkpoints
from seglab.run.evaluations import COUNTS, Evaluations, scored_as
from seglab.run.folder import Run

TEST = "test"

LARGE = 1_000_000
"""Pixels from which on the memory for a batch is compared with what is free."""


@dataclass(frozen=True)
class Wish:
    """A checkpoint of a run, a split of the data in `root`, and a device; by default the data and device of training.

    `tile`: scored by tiles of so many pixels a side. `out`: the folder of the files; in the run folder by default.
    `again`: also where the same test split was scored before. `original`: against the labels at their own size.
    """

    split: str = "val"
    root: Path | None = None
    checkpoint: str = "last"
    tile: int | None = None
    out: Path | None = None
    again: bool = False
    device: str = "auto"
    original: bool = False


@dataclass(frozen=True)
class Evaluated:
    """The content of the JSON file of an evaluation, its files, and sentences that a reader of the scores must know."""

    content: dict[str, Any]
    files: list[Path]
    notes: list[str]


Progress = Callable[[Iterable[Counted], int], Iterable[Counted]]


def evaluate(run: Run, wish: Wish, progress: Progress = lambda images, count: images) -> Evaluated:
    """Scores a run and writes what it found; a test split that was scored before is only shown.

    `progress` passes on the images, whose number it is told. Raises ValueError, one line.
    """
    evaluator = Evaluator(run, wish)
    before = evaluator.before() if wish.split == TEST else []
    if before and not wish.again:
        path, content = before[0]
        said = f"{path} holds this score since {content['scored'][:10]}: {ONCE}; --again scores again"
        return Evaluated(content, [path], [said])
    counts = evaluator.counts(progress)
    return evaluator.written(counts, 1 + max((content["looks"] for _, content in before), default=0))


class Evaluator:
    """A network and a split of data, ready to be scored. Raises ValueError, one line, where they are not."""

    def __init__(self, run: Run, wish: Wish):
        self.run = run
        self.wish = wish
        self.config = check_model(read(run))
        self.known = run.environment() if run.environment_file.exists() else {}
        on_cpu = wish.device == "auto" and str(self.known.get("device", "")).startswith("cpu")
        self.device = torch.device("cpu" if on_cpu else device_of(wish.device))
        self.net = trained_network(run, self.config, wish.checkpoint)
        self.precision = precision_on(self.config, str(self.device))
        if wish.split == TEST and not run.done:
            raise ValueError(f"{run.folder} is not finished: a test split is scored when all is chosen")
        of_run = of_data(self.config)
        if wish.original and (not wish.root or (of_run.windows and not wish.tile)):
            cut = "; a run of data.windows also needs --tile" if of_run.windows else ""
            raise ValueError(f"--original reads the labels' files: accepted is --data ROOT beside it{cut}")
        if of_run.height_width:
            self._check_memory({of_run.height_width}, of_run.batch_size)  # before images of this size are made
        self.data = data_of(run, self.config, wish.root)
        cache = cache_of(self.data)
        self.cache = cache.whole if wish.tile else cache
        self.indices = positions(self.data, wish.split, whole=bool(wish.tile))
        if not self.indices:
            raise ValueError(
                f"{run.folder}: its config keeps no test split (data.test_scenes, data.test_fraction); "
                "accepted are --split val and all"
            )
        self._check_memory({self.cache.sizes[i] for i in self.indices}, of_run.batch_size)

    def _check_memory(self, sizes: set[tuple[int, int]], batch_size: int) -> None:
        """Raises ValueError where the images of one batch need more memory than is free."""
        pixels = scored_at_once(sizes, batch_size) * max(height * width for height, width in sizes)
        if self.wish.tile or self.device.type != "cpu" or pixels < LARGE:
            return
        needed = bytes_per_pixel(self.net) * pixels
        free = free_memory()
        if free is not None and needed > free:
            raise ValueError(
                f"images of {pixels / 1e6:.0f} million pixels at once need {needed / 1e9:.1f} GB of memory, "
                f"{free / 1e9:.1f} are free; accepted is --tile"
            )

    @property
    def evaluations(self) -> Evaluations:
        """The place of the files."""
        return Evaluations(self.wish.out) if self.wish.out else self.run.evaluations

    @property
    def of_own_data(self) -> bool:
        """True if the data are those that the run was trained on."""
        return self.data.content == self.known.get("data")

    @property
    def weights(self) -> str:
        """Hash of the checkpoint."""
        return checkpoints.digest(checkpoint_of(self.run, self.wish.checkpoint), self.run)

    def before(self) -> list[tuple[Path, dict[str, Any]]]:
        """Files that hold scores of the same weights on the same split, in the run folder and where it would write."""
        places = [self.run.evaluations, self.evaluations]
        looks = [look for place in places for look in place.looks(self.wish.split, self.weights, self.data.content)]
        return list(dict(looks).items())

    def counts(self, progress: Progress) -> Counts:
        """The counts of each image, in the threads, precision and layout of the training."""
        out = Counts(list(self.config.classes))
        scenes = self.data.scenes | {pair.name: pair.scene or "" for pair in self.data.pairs}
        with isolated(self.config.threads or torch.get_num_threads()):
            for image in progress(self._images(), len(self.indices)):
                out.add(image, scenes[image[0]])
        if not out.pixels.sum():
            raise ValueError(f"{self.data.root}: no pixel of the {len(self.indices)} labels has a class")
        return out

    def _images(self) -> Iterator[Counted]:
        found = self._as_trained()
        if not self.wish.original:
            return found
        pairs = {pair.name: pair for pair in self.data.pairs}

        def label(name: str) -> np.ndarray:
            return self.data.reader.load(pairs[name], self.config.classes)[1]

        return at_own_size(found, label, len(self.config.classes))

    def _as_trained(self) -> Iterator[Counted]:
        """The images at the size at which the run saw them."""
        if not self.wish.tile:
            return whole_images(self.net, self.data, self.indices, self.precision, self.device)
        net = ready(self.net, self.config, str(self.device))
        tiling = tiling_for([net], self.wish.tile)
        return tiled_images(net, self.cache.whole, self.indices, tiling, len(self.config.classes))

    def written(self, counts: Counts, looks: int) -> Evaluated:
        """Writes the files of an evaluation."""
        wish = self.wish
        accelerator = "cpu" if self.device.type == "cpu" else "gpu"
        device = computing_device(accelerator, self.config.threads, self.device.index or 0)
        scenes = len({scene for scene in counts.scenes if scene})
        content = {
            **{"split": wish.split, "checkpoint": wish.checkpoint, "identity": self.run.results().get("identity", "")},
            **{"weights": self.weights, "data": self.data.content, "device": device, "precision": self.precision},
            **{"tile": wish.tile, "original": wish.original, "scored": datetime.now(UTC).isoformat(), "looks": looks},
            **{"images": len(counts.names), "scenes": scenes, "pixels": int(counts.pixels.sum())},
            **scored_as(counts.total, list(self.config.classes)),
        }
        other = "" if self.of_own_data else self.data.content
        path = self.evaluations.file(wish.split, wish.checkpoint, other, wish.original)
        tables = {"images": counts.of_images(), "scenes": counts.of_scenes(), COUNTS: counts.table()}
        files = self.evaluations.write(path, content, tables)
        return Evaluated(content, files, notes(self, counts, content))
