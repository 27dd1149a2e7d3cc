"""A profile in tables and words, for the run folder and the terminal."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from seglab.machine.precision import resolved_precision
from seglab.pages.markdown import markdown_table
from seglab.profile.clock import TRACED, WARM_UP, Kernel, PhaseClock, Unit
from seglab.profile.phases import OTHER, PARTS, TRAINING
from seglab.run.folder import Run

log = logging.getLogger("seglab")

TOP = 12
"""Number of operators that are shown."""

WHOLE = "whole"
ORDER = (
    *("data wait", "transfer", "forward", "loss", "backward", "optimiser", "metrics", "logging"),
    *("rows", "TensorBoard", "checkpoint", "maps and counts", "pictures and pages", OTHER),
)


def nothing_left(run: Run) -> str:
    """Message for a finished run that cannot be profiled any more."""
    if run.profile():
        return f"{run.folder} is done; its profile is {run.profile_text}"
    return f"{run.folder} is done, no step is left to profile; another study= or more epochs= have some"


def write_profile(run: Run, clock: PhaseClock) -> None:
    """Writes and logs the tables of a clock; nothing is written if it saw no whole step."""
    clock.end()
    if not clock.units[TRAINING]:
        log.info("%s: no whole step was trained, so there is no profile", run.folder)
        return
    rows = [row for part in PARTS if clock.units[part] for row in phase_rows(part, clock.timed(part))]
    text = _text(run, clock, rows)
    run.write_profile(rows, text)
    log.info("\n%s\n%s and %s hold the same.", text, run.profile_text, run.profile_table.name)


def phase_rows(part: str, units: Sequence[Unit]) -> list[dict[str, str | float]]:
    """Rows for the phases of a part and one for the whole.

    Medians and means are over the units. Means add up to the mean of the whole, and shares are shares of it.
    """
    whole = [sum(unit.values()) for unit in units]
    total = sum(whole)
    columns = {phase: [unit.get(phase, 0.0) for unit in units] for phase in ORDER}
    columns = {phase: column for phase, column in columns.items() if any(column)} | {WHOLE: whole}
    return [
        {
            "part": part,
            "phase": phase,
            "median_ms": round(1000 * median(column), 3),
            "mean_ms": round(1000 * sum(column) / len(column), 3),
            "share": round(sum(column) / total, 5),
            "count": len(column),
        }
        for phase, column in columns.items()
    ]


def _text(run: Run, clock: PhaseClock, rows: Sequence[dict[str, str | float]]) -> str:
    config = run.config()
    images = config["data"]["batch_size"]
    precision = resolved_precision(config["precision"], config["trainer"]["accelerator"])
    out = [f"# Where the time of {run.folder.name} goes"]
    out.append(f"{run.environment()['device']}, batches of {images}, precision {precision}. "
               "A share is of the mean; the medians of phases need not add up.")  # fmt: skip
    for part in PARTS:
        mine = [row for row in rows if row["part"] == part]
        if mine:
            out += [f"## {part} ({mine[0]['count']} counted)", markdown_table(_shown(mine))]
    out.append(f"Of the training steps the first {WARM_UP} and the traced ones do not count"
               f"{', unless there are no others' if len(clock.units[TRAINING]) <= WARM_UP else ''}.")  # fmt: skip
    out += [f"## operators of a training step ({clock.traced} traced)", _kernel_text(clock.kernels)]
    return "\n\n".join(out) + "\n"


def _shown(rows: Sequence[dict[str, str | float]]) -> list[list[str]]:
    head = ["phase", "median ms", "mean ms", "share"]
    return [head, *([str(r["phase"]), f"{r['median_ms']:.1f}", f"{r['mean_ms']:.1f}", f"{r['share']:.1%}"]
                    for r in rows)]  # fmt: skip


def _kernel_text(found: Sequence[Kernel]) -> str:
    if not found:
        return f"None: the training had no more than {WARM_UP} steps, and the {TRACED} after those are traced."
    calls: dict[str, float] = defaultdict(float)
    ms: dict[str, float] = defaultdict(float)
    share: dict[str, float] = defaultdict(float)
    for k in found:
        calls[k.name] += k.calls
        ms[k.name] += k.ms
        share[k.name] += k.share
    head = ["operator", "self ms", "share", "calls"]
    names = [
        [name, f"{ms[name]:.2f}", f"{share[name]:.1%}", f"{calls[name]:.0f}"]
        for name in sorted(ms, key=lambda n: -ms[n])[:TOP]
    ]
    each = [[k.name, f"{k.ms:.2f}", f"{k.share:.1%}", f"{k.calls:.0f}", k.shapes] for k in found[:TOP]]
    rest = sum(k.share for k in found[TOP:])
    parts = [markdown_table([head, *names]), "The same by the shapes of their inputs:"]
    parts += [markdown_table([[*head, "shapes"], *each]), f"{max(0, len(found) - TOP)} others take {rest:.1%}."]
    return "\n\n".join(parts)
