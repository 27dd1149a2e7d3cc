"""One row of the grid: cells that differ only in their epochs, trained as one as far as they are the same."""

import contextlib
import logging
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only

from seglab.config.parts import build_task, build_trainer
from seglab.config.schema import ConfigError
from seglab.data import SegmentationData
from seglab.machine.environment import isolated
from seglab.machine.processes import gpu_of_its_own
from seglab.machine.signals import Interrupted, ask_to_stop, asked_to_stop, stopping_softly
from seglab.profile.clock import PhaseClock
from seglab.profile.phases import during
from seglab.profile.tables import nothing_left, write_profile
from seglab.run import checkpoints
from seglab.run.board import Board
from seglab.run.folder import DIVERGED, FAILED, INTERRUPTED, RUNNING, Run, RunHeld
from seglab.task.finite import NotFinite
from seglab.training.cell import Cell, prepare
from seglab.training.recorder import Recorder

log = logging.getLogger("seglab")

EXPECTED = (ValueError, NotFinite, Interrupted)
"""Errors whose message is already the one line that a user needs."""

EXPLAINED_WARNINGS = (
    "The '.*_dataloader' does not have many workers",  # pixels come from a memory map: workers gain nothing
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # within pytorch-lightning 2.6.6 on torch 2.14
    r"Found .* module\(s\) in eval mode at the start of training",  # a frozen encoder is meant to be
    "The `srun` command is available on your system but is not used",  # one process a training is meant
    "You're resuming from a checkpoint that ended before the epoch ended",  # the order goes on at the right batch
)


def train_row(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Trains the cells of `config["marks"]` and `config["epochs"]`; what each one's results.json says, in order."""
    data, cells = prepare(config)
    if getattr(rank_zero_only, "rank", 0):
        _help(data, [c for c in cells if not c.run.done])
        return []
    if config["profile"] and all(cell.run.done for cell in cells):
        if not cells[-1].run.profile():
            raise ConfigError(nothing_left(cells[-1].run))
        log.info("%s", nothing_left(cells[-1].run))
    with contextlib.ExitStack() as held, stopping_softly(), isolated(config["threads"]):
        mine, results = [], {}
        for cell in cells:
            if cell.run.done:
                log.info("%s is done", cell.run.folder)
                continue
            try:
                cell.run.hold()
            except RunHeld as e:
                results[cell] = cell.head(RUNNING, str(e))
                continue
            held.callback(cell.run.release)
            mine.append(cell)
        while mine and _attempt(data, mine, results):
            mine = [c for c in mine if not c.run.done]
        return [results.get(cell) or cell.run.results() for cell in cells]


def _help(data: SegmentationData, cells: list[Cell]) -> None:
    """The part of a process that trains with a first one, which started it and does all writing."""
    told = contextlib.suppress(NotFinite, Interrupted)  # by the first process
    with told, stopping_softly(), isolated(cells[-1].config["threads"]):
        _fit(cells[-1], cells[:-1], data, starting_point(cells[-1]), None)


def _attempt(data: SegmentationData, cells: list[Cell], results: dict[Cell, dict[str, Any]]) -> bool:
    """Trains the longest cell, and with it what the others share with it. False if that failed, for all of them."""
    longest, others = cells[-1], cells[:-1]
    with _log_into(longest.run.log_file):
        try:
            if asked_to_stop():
                raise Interrupted(f"{asked_to_stop()} before it began")
            _train(longest, others, data)
            return True
        except Exception as e:
            level = logging.DEBUG if isinstance(e, EXPECTED) else logging.ERROR
            log.log(level, "%s", traceback.format_exc().rstrip())
            status = DIVERGED if isinstance(e, NotFinite) else INTERRUPTED if isinstance(e, Interrupted) else FAILED
            reason = f"{type(e).__name__}: {e}".splitlines()[0]
    for cell in cells:
        if not cell.run.done and cell not in results:
            results[cell] = cell.head(status, reason)
            if not cell.run.config_file.exists():
                cell.start(None).close()  # it never began, but the grid must name it
            cell.run.write_results(results[cell])
    if status != INTERRUPTED and longest.config["on_error"] == "stop":
        ask_to_stop("on_error=stop")
    return False


def _train(cell: Cell, others: list[Cell], data: SegmentationData) -> None:
    found = starting_point(cell)
    with contextlib.closing(cell.start(found)) as board:
        _fit(cell, others, data, found, board)


def _fit(
    cell: Cell, others: list[Cell], data: SegmentationData, found: checkpoints.Found | None, board: Board | None
) -> None:
    train, val = data.indices
    came = f", goes on after {found.epochs} epochs of {found.run.folder.name}" if found else ""
    log.info("%s: %d images train, %d validate%s", cell.run.folder, len(train), len(val), came)
    data.resume_at(found.epochs if found else 0, found.batches if found else 0)
    task = build_task(cell.config)
    recorder = Recorder(cell, others, data, board, found)
    if found and found.epochs == cell.epochs:
        task.load_state_dict(checkpoints.state_dict(found.path))
        return recorder.finish(task)
    with warnings.catch_warnings(), gpu_of_its_own(cell.config["trainer"]) as arguments:
        for message in EXPLAINED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        clock = PhaseClock() if cell.config["profile"] and board else None
        trainer = build_trainer({**cell.config, "trainer": arguments}, [recorder.gauges, recorder], clock)
        try:
            trainer.fit(task, datamodule=data, ckpt_path=found.path if found else None, weights_only=True)
            with during(trainer, "pictures and pages"):
                recorder.finish(task)
        finally:
            if clock:
                write_profile(cell.run, clock)


def starting_point(cell: Cell) -> checkpoints.Found | None:
    """The checkpoint to go on from: the run's own, or a longer one of a run that shares its epochs."""
    mine = checkpoints.own(cell.run, cell.identity, cell.epochs)
    if not cell.shared_epochs:
        return mine
    folders = cell.run.folder.parent.parent.glob(f"*/*-s{cell.config['seed']}-{cell.identity[:8]}")
    others = [Run(folder) for folder in folders if folder != cell.run.folder]
    # neither may be past what it shares: the other's own decay is nobody else's
    limits = [(o, cell.schedule.shared_epochs(o.config()["epochs"])) for o in others if o.config_file.exists()]
    theirs = checkpoints.shared([(o, min(e, cell.shared_epochs)) for o, e in limits], cell.identity)
    return max(filter(None, (mine, theirs)), key=lambda f: (f.epochs, f.batches), default=None)


@contextlib.contextmanager
def _log_into(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    before = log.level
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.setLevel(before)
        logging.getLogger().removeHandler(handler)
        handler.close()
