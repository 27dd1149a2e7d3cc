"""One cell of the grid: its config, identity and folder, and how its folder is started and finished."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seglab.config.identity import identity
from seglab.config.messages import command
from seglab.config.parts import build_data, build_schedule, check_parts
from seglab.data import SegmentationData
from seglab.machine.environment import environment
from seglab.machine.processes import together
from seglab.run import checkpoints
from seglab.run.board import Board
from seglab.run.board_tables import layout
from seglab.run.folder import DONE, Run
from seglab.task.schedules import Constant


@dataclass(frozen=True, eq=False)
class Cell:
    """A training of `config["epochs"]` epochs, and the folder that it fills."""

    config: Mapping[str, Any]
    identity: str
    run: Run
    schedule: Constant

    @property
    def epochs(self) -> int:
        """Epochs to train."""
        return self.config["epochs"]

    @property
    def shared_epochs(self) -> int:
        """How many of them any longer cell of the same identity trains, too."""
        shared = self.schedule.shared_epochs(self.epochs) if self.config["share"] else 0
        # processes that train together end with their training, so that none is left for a cell's own decay
        return shared if shared == self.epochs or not together(self.config) else 0

    def head(self, status: str, reason: str | None = None) -> dict[str, Any]:
        """What results.json opens with."""
        names = self.config["names"]
        out = {"status": status, "identity": self.identity, "model": names["model"], "loss": names["loss"]}
        out |= {"epochs": self.epochs, "seed": self.config["seed"]}
        return out | ({"reason": reason} if reason else {})

    def start(self, found: checkpoints.Found | None) -> Board:
        """The folder and TensorBoard file as they are after the epochs of a checkpoint, of this run or another."""
        epochs = found.epochs if found else 0
        source = found.run if found else self.run
        if source.folder != self.run.folder:
            self.run.take_over(source, epochs)
        self.run.start(self.config, environment(self.config["trainer"]["accelerator"], self.config["threads"]), epochs)
        self.run.write_command(command())
        if found and source.folder != self.run.folder:
            checkpoints.link(found.path, self.run.last_checkpoint)
            checkpoints.link(source.best_checkpoint, self.run.best_checkpoint)
        groups = layout(self.config["data"]["classes"], self.config["score_train"])
        return Board(self.run.folder, source.folder, epochs, groups)

    def finish(self, board: Board, pictures: Sequence[tuple[str, Any]], class_names: Sequence[str]) -> dict[str, Any]:
        """Pictures, the hparams row and results.json, all from what the run folder holds."""
        for name, picture in pictures:
            picture.save(self.run.pictures / f"{name}.png", optimize=True)
        results = self.head(DONE) | results_of(self.run, class_names)
        board.add_final(self.epochs, self._settings(), final_scores(results), pictures)
        histogram = self.run.records.probabilities() if self.config["pr_curves"] else None
        if histogram is not None:
            board.add_pr_curves(self.epochs, class_names, histogram)
        board.close()
        results["environment"] = self.run.environment()
        self.run.write_results(results)
        return results

    def _settings(self) -> dict[str, str | float]:
        config = self.config
        out = {group: config["names"][group] for group in ("model", "loss", "data")}
        out |= {"epochs": self.epochs, "seed": config["seed"]}
        return out | {"learning rate": config["optimizer"]["lr"], "batch size": config["data"]["batch_size"]}


def results_of(run: Run, class_names: Sequence[str]) -> dict[str, Any]:
    """The scores after the last epoch, the best epoch, and the time, from metrics.csv and times.csv."""
    rows, times = run.metrics(), run.times()
    last, seconds = rows[-1], sum(t["seconds"] for t in times)
    val = {name: last[f"val/{name}"] for name in ("miou", "dice", "accuracy")}
    return {
        "val": val | {"iou": {name: last[f"val/iou/{name}"] for name in class_names}},
        "majority_miou": last["val/majority_miou"],
        "best": run.best(len(rows)),
        "train_seconds": seconds,
        "images_per_second": sum(t["images"] for t in times) / seconds,
    }


def final_scores(results: Mapping[str, Any]) -> dict[str, float]:
    """The numbers by which finished runs are compared, those first that are looked at first."""
    val, best = results["val"], results["best"]
    out = {"miou": val["miou"], "best_miou": best["miou"], "best_epoch": best["epoch"]}
    out |= {name: val[name] for name in ("dice", "accuracy")}
    return out | {f"iou/{name}": value for name, value in val["iou"].items()}


def prepare(config: Mapping[str, Any], data: SegmentationData | None = None) -> tuple[SegmentationData, list[Cell]]:
    """The data of a row, read and checked unless given, and its cells, the shortest first.

    Raises ConfigError or DataError.
    """
    check_parts(config)
    if data is None:
        data = build_data(config)
        data.setup()
    key, schedule = identity(config, data.content), build_schedule(config)
    cells = []
    for epochs in sorted({*(config["marks"] or ()), config["epochs"]}):
        own = {**config, "epochs": epochs, "marks": None}
        names = config["names"]
        folder = f"{names['model']}-{names['loss']}-e{epochs}-s{config['seed']}-{key[:8]}"
        cells.append(Cell(own, key, Run(Path(config["output_dir"]) / config["study"] / folder), schedule))
    return data, cells
