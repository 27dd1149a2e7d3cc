"""One row of the grid: cells that differ only in their epochs, trained as one as far as they are the same."""

import contextlib
import logging
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only

from seglab.config.identity import WORDS, recorded
from seglab.config.messages import full_disk, reason
from seglab.config.read import read
from seglab.config.schema import Config, ConfigError
from seglab.data import SegmentationData
from seglab.machine.isolation import isolated
from seglab.machine.processes import first_gpu, gpu_of_its_own
from seglab.machine.signals import Interrupted, ask_to_stop, asked_to_stop, stopping_softly
from seglab.profile.clock import PhaseClock
from seglab.profile.phases import during
from seglab.profile.tables import profile_rows, profile_text
from seglab.run import checkpoints
from seglab.run.board import Board
from seglab.run.checkpoint_writer import CheckpointWriter
from seglab.run.folder import DIVERGED, FAILED, INTERRUPTED, RUNNING, Run, RunHeld
from seglab.task.finite import NotFinite
from seglab.training.cell import Cell, prepare
from seglab.training.fit import fit, trainer_of
from seglab.training.recorder import CellDone, Recorder

log = logging.getLogger("seglab")

SAME_CELL = {"code", "versions", "device"}
OTHER_CELL = {"settings", "data"}
"""Facts of an identity in which two runs of one cell may differ, and those that make it another cell."""

EXPECTED = (ValueError, NotFinite, Interrupted)
"""Errors whose message is already the one line that a user needs."""


def train_row(config: Config, on_cell_done: CellDone) -> list[dict[str, Any]]:
    """Trains the cells of `config.marks` and `config.epochs`; the content of each one's results.json, in order."""
    with gpu_of_its_own(config.trainer) as trainer:
        data, cells = prepare(config, gpu=first_gpu(trainer) or 0)
        if getattr(rank_zero_only, "rank", 0):
            _help(data, [c for c in cells if not c.run.done])
            return []
        return _train(data, cells, trainer, on_cell_done)


def _train(
    data: SegmentationData, cells: list[Cell], trainer: Mapping[str, Any], on_cell_done: CellDone
) -> list[dict[str, Any]]:
    config = cells[-1].config
    if config.profile and all(cell.run.done for cell in cells):
        if not cells[-1].run.profile():
            raise ConfigError(nothing_left(cells[-1].run))
        log.info("%s", nothing_left(cells[-1].run))
    isolation = isolated(config.threads or 1, first_gpu(trainer))
    with contextlib.ExitStack() as held, stopping_softly(), isolation:
        mine: list[Cell] = []
        results: dict[Cell, dict[str, Any]] = {}
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
        _say_why_again(mine)
        while mine and _attempt(data, mine, trainer, results, on_cell_done):
            mine = [c for c in mine if not c.run.done]
        return [results.get(cell) or cell.run.results() for cell in cells]


def nothing_left(run: Run) -> str:
    """The way to a profile where a run is finished."""
    if run.profile():
        return f"{run.folder} is done; its profile is {run.profile_text}"
    return f"{run.folder} is done, no step is left to profile; another study= or more epochs= have some"


def _say_why_again(cells: list[Cell]) -> None:
    """Says which runs of the same cell are neither resumed nor skipped, and why: their weights may differ."""
    for cell in cells:
        for run, differs in cell.namesakes():
            if not cell.run.config_file.exists() and set(differs) & SAME_CELL and not set(differs) & OTHER_CELL:
                facts = [_change(name, run, cell) for name in differs]
                log.info("%s starts again: %s differs in %s", cell.run.folder.name, run.folder.name, ", ".join(facts))


def _change(name: str, run: Run, cell: Cell) -> str:
    facts = recorded(run.environment(), read(run)).facts[name], cell.identity.facts[name]
    short = all(isinstance(fact, str) and name in ("device", "precision") for fact in facts)
    return f"{WORDS[name]} ({facts[0]} there, {facts[1]} here)" if short else WORDS[name]


def _help(data: SegmentationData, cells: list[Cell]) -> None:
    """The part of a process that trains with a first one, which started it and does all writing."""
    told = contextlib.suppress(NotFinite, Interrupted)  # by the first process
    with told, stopping_softly(), isolated(cells[-1].config.threads or 1):
        found = starting_point(cells[-1])
        _fit(cells[-1], cells[:-1], data, cells[-1].config.trainer, found, None, lambda *_: None)


def _attempt(
    data: SegmentationData,
    cells: list[Cell],
    trainer: Mapping[str, Any],
    results: dict[Cell, dict[str, Any]],
    on_cell_done: CellDone,
) -> bool:
    """Trains the longest cell, and with it what the others share with it. False if that failed, for all of them."""
    *others, longest = cells
    with _log_into(longest.run.log_file):
        try:
            if asked_to_stop():
                raise Interrupted(f"{asked_to_stop()} before it began")
            found = starting_point(longest)
            with contextlib.closing(longest.start(found)) as board:
                _fit(longest, others, data, trainer, found, board, on_cell_done)
            return True
        except Exception as e:
            level = logging.DEBUG if isinstance(e, EXPECTED) or full_disk(e) else logging.ERROR
            log.log(level, "%s", traceback.format_exc().rstrip())
            status = DIVERGED if isinstance(e, NotFinite) else INTERRUPTED if isinstance(e, Interrupted) else FAILED
            why = reason(e, longest.run.folder)
    for cell in cells:
        if not cell.run.done and cell not in results:
            results[cell] = cell.head(status, why)
            try:
                if not cell.run.config_file.exists():
                    cell.start(None).close()  # it never began, but the grid must name it
                cell.run.write_results(results[cell])
            except OSError:  # the disk is full for this, too
                log.error("%s: %s", status, why)
    if status != INTERRUPTED and longest.config.on_error == "stop":
        ask_to_stop("on_error=stop")
    return False


def _fit(
    cell: Cell,
    others: list[Cell],
    data: SegmentationData,
    arguments: Mapping[str, Any],
    found: checkpoints.Found | None,
    board: Board | None,
    on_cell_done: CellDone,
) -> None:
    test = data.sides[2]
    source = found.run.folder if found else cell.run.folder
    where = source.name if source.parent == cell.study else source
    came = f", resumes from epoch {found.epochs} of {where}" if found else ""
    kept = f", {len(test)} kept for the test" if test else ""
    unused = len(data.pairs) - sum(map(len, data.pair_sides))
    kept += f", {unused} unused" if unused else ""
    numbers = (len(data.samples), "windows" if data.windows else "images", len(data.indices[1]))
    log.info("%s: %d %s train, %d validate%s%s", cell.run.folder, *numbers, kept, came)
    clock = PhaseClock() if cell.config.profile and board else None
    writer = CheckpointWriter(cell.run)
    recorder = Recorder(cell, others, data, board, found, writer, on_cell_done)
    if len(mapped := recorder.keeper.mapped_names) < len(data.indices[1]):
        kept_by = (cell.config.maps, cell.config.pictures)
        log.info("maps of %d of these are kept, evenly spread (maps=%s, pictures=%d)", len(mapped), *kept_by)
    with trainer_of(cell.config, [recorder.gauges, recorder], clock, arguments) as trainer, writer:
        try:
            task = fit(trainer, cell.config, data, found)
            with during(trainer, "pictures and pages"):
                recorder.finish(task)
        finally:
            if clock:
                _write_profile(cell, clock)


def _write_profile(cell: Cell, clock: PhaseClock) -> None:
    rows = profile_rows(clock)
    if not rows:
        log.info("%s: no whole step was trained, so there is no profile", cell.run.folder)
        return
    size = cell.config.data["batch_size"]
    where = f"{cell.identity.device}, batches of {size}, precision {cell.config.precision}"
    text = profile_text(cell.run.folder.name, where, clock, rows)
    cell.run.write_profile(rows, text)
    log.info("\n%s\n%s and %s hold the same.", text, cell.run.profile_text, cell.run.profile_table.name)


def starting_point(cell: Cell) -> checkpoints.Found | None:
    """The checkpoint to resume from: the run's own, or a longer one of a run that shares its epochs."""
    key = cell.identity.key
    if not cell.identity.decided:
        run = cell.run
        return checkpoints.own(run, str(run.results().get("identity")), cell.epochs) if run.folder.exists() else None
    mine = checkpoints.own(cell.run, key, cell.epochs)
    if not cell.shared_epochs:
        return mine
    folders = cell.study.parent.glob(f"*/*-s{cell.config.seed}-{key[:8]}")
    others = [Run(folder) for folder in folders if folder != cell.run.folder]
    theirs = checkpoints.shared([(o, _shared_epochs(o, cell)) for o in others], key)
    return max(filter(None, (mine, theirs)), key=lambda f: (f.epochs, f.batches), default=None)


def _shared_epochs(other: Run, cell: Cell) -> int:
    """Epochs that two runs have in common: neither's own decay. None of a run that can't be read."""
    try:
        return min(cell.schedule.shared_epochs(read(other).epochs), cell.shared_epochs)
    except (OSError, ValueError):
        return 0


@contextlib.contextmanager
def _log_into(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # of a full disk, which ends the training
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
