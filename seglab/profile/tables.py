"""A profile in tables and words."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from seglab.pages.markdown import markdown_table
from seglab.profile.clock import TRACED, WARM_UP, Kernel, PhaseClock, Unit
from seglab.profile.phases import OTHER, PARTS, TRAINING

Row = dict[str, str | float]
"""Times of one phase of one part."""

TOP = 12
"""Number of operators that are shown."""

WHOLE = "whole"
ORDER = (
    *("data wait", "transfer", "forward", "loss", "backward", "optimiser", "metrics", "logging"),
    *("TensorBoard", "checkpoint", "maps and counts", "pictures and pages", OTHER),
)


def profile_rows(clock: PhaseClock) -> list[Row]:
    """The rows of every part that a clock saw; none where no whole step was trained."""
    clock.end()
    parts = [part for part in PARTS if clock.units[part]] if clock.units[TRAINING] else []
    return [row for part in parts for row in phase_rows(part, clock.timed(part))]


def profile_text(title: str, where: str, clock: PhaseClock, rows: Sequence[Row]) -> str:
    """The same in words; `where` says on what it was measured."""
    out = [f"# Where the time of {title} goes"]
    out.append(f"{where}. A share is of the mean; the medians of phases need not add up.")
    for part in PARTS:
        mine = [row for row in rows if row["part"] == part]
        if mine:
            out += [f"## {part} ({mine[0]['count']} counted)", markdown_table(_shown(mine))]
    out.append(f"Of the training steps the first {WARM_UP} and the traced ones do not count"
               f"{', unless there are no others' if len(clock.units[TRAINING]) <= WARM_UP else ''}.")  # fmt: skip
    out += [f"## operators of a training step ({clock.traced} traced)", _kernel_text(clock.kernels)]
    return "\n\n".join(out) + "\n"


def phase_rows(part: str, units: Sequence[Unit]) -> list[Row]:
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


def _shown(rows: Sequence[Row]) -> list[list[str]]:
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
