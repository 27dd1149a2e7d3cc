"""One cell of the grid: its config, identity and folder, and how its folder is started and finished."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from seglab.config.identity import Identity, elsewhere, here, identity, recorded
from seglab.config.messages import command
from seglab.config.parts import build_data, build_schedule, check_machine, check_parts
from seglab.config.read import read
from seglab.config.schema import Config
from seglab.data import SegmentationData
from seglab.data.folder import median_metres
from seglab.machine.environment import environment
from seglab.machine.precision import device_kind
from seglab.run import checkpoints
from seglab.run.board import Board
from seglab.run.board_tables import layout
from seglab.run.folder import DONE, Run
from seglab.scores import MAIN, flattened, nested
from seglab.task.schedules import Constant


@dataclass(frozen=True, eq=False)
class Cell:
    """A training of `config.epochs` epochs, and the folder that it fills."""

    config: Config
    identity: Identity
    schedule: Constant
    original_size: tuple[int, int] | None = None
    """height and width of all images before `data.size`, where they are equal"""
    resolution: float | None = None
    """metres a pixel of the training images before `data.size`, their median; None where it is unknown"""

    @property
    def epochs(self) -> int:
        """Epochs to train."""
        return self.config.epochs

    @property
    def name(self) -> str:
        """Beginning of the name of its folder."""
        names = self.config.names
        return f"{names.model}-{names.loss}-e{self.epochs}-s{self.config.seed}"

    @property
    def study(self) -> Path:
        """The folder of its study."""
        return Path(self.config.output_dir).expanduser() / self.config.study

    @property
    def run(self) -> Run:
        """Its folder. Where another process decides its device: the one that says it is this cell, if there is one."""
        if self.identity.decided:
            return self._own
        found = [run for run, differs in self.namesakes() if not differs]
        return max(found, key=lambda run: (run.done, run.finished), default=Run(self.study / self.name))

    @cached_property
    def _own(self) -> Run:
        return Run(self.study / f"{self.name}-{self.identity.key[:8]}")

    def namesakes(self) -> Iterator[tuple[Run, list[str]]]:
        """Every run folder of the same name in its study, and the facts in which its identity differs."""
        for folder in sorted(self.study.glob(f"{self.name}-*")):
            run = Run(folder)
            try:
                yield run, self.identity.differs(recorded(run.environment(), read(run)))
            except (OSError, ValueError):
                continue  # a folder that can't be read is no cell of ours

    @property
    def deterministic(self) -> bool:
        """True if the same training, again on the same device, has the same bits: a GPU must be asked for that."""
        return device_kind(self.config.accelerator) == "cpu" or self.config.trainer.get("deterministic") is True

    @property
    def shared_epochs(self) -> int:
        """Number of them that any longer cell of the same identity trains, too."""
        shared = self.schedule.shared_epochs(self.epochs) if self.config.share else 0
        # processes that train together end with their training, so that none is left for a cell's own decay
        return shared if shared == self.epochs or not self.config.together else 0

    def head(self, status: str, reason: str | None = None) -> dict[str, Any]:
        """The first lines of results.json."""
        names = self.config.names
        out: dict[str, Any] = {"status": status, "identity": self.identity.key}
        out |= {"model": names.model, "loss": names.loss}
        out |= {"epochs": self.epochs, "seed": self.config.seed}
        return out | ({"reason": reason} if reason else {})

    def start(self, found: checkpoints.Found | None) -> Board:
        """The folder and TensorBoard file as they are after the epochs of a checkpoint, of this run or another."""
        epochs = found.epochs if found else 0
        source = found.run if found else self.run
        if source.folder != self.run.folder:
            self.run.take_over(source, epochs)
        facts = {name: self.identity.facts[name] for name in ("settings", "data", "code", "device")}
        facts |= {"deterministic": self.deterministic}
        facts |= {"original_size": self.original_size, "resolution": self.resolution}
        self.run.start(self.config.plain(), environment() | facts, epochs)
        self.run.write_command(command())
        if found and source.folder != self.run.folder:
            checkpoints.link(found.path, self.run.last_checkpoint)
            # where the last epoch is the best, its own file: that of the source may have lost its optimiser since
            last_is_best = source.best(epochs)["epoch"] == epochs
            checkpoints.link(found.path if last_is_best else source.best_checkpoint, self.run.best_checkpoint)
        board = Board(self.run.folder, source.folder, epochs, layout(self.config.classes, self.config.score_train))
        board.complete(self.run.metrics())
        return board

    def finish(self, board: Board, pictures: Sequence[tuple[str, Any]]) -> None:
        """Pictures, the hparams row and results.json, all from what the run folder holds."""
        class_names = list(self.config.classes)
        for name, picture in pictures:
            picture.save(self.run.pictures / f"{name}.png")  # optimize=True takes 4 times as long for 1 % of the size
        results = self.head(DONE) | results_of(self.run, class_names)
        board.add_final(self.epochs, self._settings(), final_scores(results), pictures)
        histogram = self.run.records.probabilities() if self.config.pr_curves else None
        if histogram is not None:
            board.add_pr_curves(self.epochs, class_names, histogram)
        board.close()
        finished = {"finished": datetime.now(UTC).isoformat()}
        self.run.write_environment(self.run.environment() | finished)
        results["environment"] = self.run.environment()
        self.run.previous_checkpoint.unlink(missing_ok=True)  # the last one is whole, and will not be replaced
        self.run.write_results(results)

    def _settings(self) -> dict[str, str | float]:
        config = self.config
        out: dict[str, str | float] = {g: getattr(config.names, g) for g in ("model", "loss", "data")}
        out |= {"epochs": self.epochs, "seed": config.seed}
        more = {"learning rate": config.optimizer.get("lr"), "batch size": config.data.get("batch_size")}
        return out | {k: v for k, v in more.items() if v is not None}


def results_of(run: Run, class_names: Sequence[str]) -> dict[str, Any]:
    """The scores after the last epoch, the best epoch, and the time, from metrics.csv and times.csv."""
    rows = run.metrics()
    times = run.times()
    last = {name.removeprefix("val/"): value for name, value in rows[-1].items() if name.startswith("val/")}
    seconds = sum(t["seconds"] for t in times)
    return {
        "val": nested(last, class_names),
        "majority_miou": last["majority_miou"],
        "best": run.best(len(rows)),
        "train_seconds": seconds,
        "images_per_second": sum(t["images"] for t in times) / seconds,
    }


def final_scores(results: Mapping[str, Any]) -> dict[str, float]:
    """The numbers by which finished runs are compared, those first that are looked at first."""
    val = flattened(results["val"])
    best = results["best"]
    return {MAIN.name: val[MAIN.name], f"best_{MAIN.name}": best[MAIN.name], "best_epoch": best["epoch"]} | val


def prepare(
    config: Config, data: SegmentationData | None = None, trains_here: bool = True, gpu: int = 0
) -> tuple[SegmentationData, list[Cell]]:
    """The data of a row, read and checked unless given, and its cells, the shortest first.

    `trains_here`: in this process, if on a GPU then on number `gpu` of those that it sees; else another one decides.
    Raises ConfigError or DataError.
    """
    if trains_here:
        check_machine(config)
        config = here(config, torch.get_num_threads(), gpu)
    check_parts(config)
    if data is None:
        data = build_data(config)
        data.setup()
    key = identity(config, data.content, gpu) if trains_here else elsewhere(config, data.content)
    schedule = build_schedule(config)
    lengths = sorted({*(config.marks or ()), config.epochs})
    size = data.original_size
    metres = median_metres(data.reader, [data.pairs[i] for i in data.pair_sides[0]])
    return data, [Cell(config.but(epochs=epochs, marks=None), key, schedule, size, metres) for epochs in lengths]
