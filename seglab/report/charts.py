"""Numbers -> inline SVG in the page's own colours, so that it is right in dark mode, in print and on a phone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from seglab.pages.page import as_json

WIDTH, HEIGHT = 380, 220
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 10, 30
SERIES = 8
"""Colours that the page defines as `--s0` to `--s7`; further lines are dashed."""


@dataclass(frozen=True)
class Line:
    """A curve over x; NaN leaves a gap. `color` is the number of a colour of the page."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int
    faint: bool = False


@dataclass(frozen=True)
class Axis:
    """A range of values and its ticks; `log` spaces powers of ten evenly."""

    low: float
    high: float
    ticks: list[float]
    log: bool = False

    def share(self, value: float) -> float:
        """Position of a value: 0 at the low end, 1 at the high end."""
        if self.log:
            low, high, value = (math.log10(v) for v in (self.low, self.high, value))
            return (value - low) / (high - low)
        return (value - self.low) / (self.high - self.low)


def axis(values: Sequence[float], log: bool = False, low: float | None = None, high: float | None = None) -> Axis:
    """An axis that holds all finite values (on a log axis the positive ones), with round ticks."""
    shown = [v for v in values if math.isfinite(v) and (v > 0 or not log)] or [1.0]
    start = min(shown) if low is None else low
    end = max(shown) if high is None else high
    if log:
        lowest = math.floor(math.log10(start))
        highest = math.ceil(math.log10(end))
        highest += highest == lowest
        every = -(-(highest - lowest) // 5)
        return Axis(10.0**lowest, 10.0**highest, [10.0**e for e in range(lowest, highest + 1, every)], True)
    if end - start <= 1e-12 * abs(start):  # nearer together than ticks can be told apart
        start, end = start - (abs(start) or 1) / 2, end + (abs(end) or 1) / 2
    step = _round_step((end - start) / 4)
    first = math.floor(start / step + 1e-9)
    last = math.ceil(end / step - 1e-9)
    return Axis(first * step, last * step, [i * step for i in range(first, last + 1)])


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= step * (1 - 1e-9))


def number(value: float) -> str:
    """A value in at most three digits; small and large ones as 2.5e-4."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    digits, power = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(power)}"


def line_chart(
    title: str, lines: Sequence[Line], log: bool = False, y: Axis | None = None, x_name: str = "epoch"
) -> Markup:
    """Curves over epochs; pointing at an epoch shows every value there."""
    xs = sorted({v for line in lines for v in line.x})
    across = Axis(xs[0], xs[-1], _whole_ticks(xs)) if xs and xs[-1] > xs[0] else axis(xs or [1.0], low=0)
    up = y or axis([v for line in lines for v in line.y], log)
    parts = [_frame(across, up, x_name)]
    for line in lines:
        points = [(_x(across, a), _y(up, b)) for a, b in zip(line.x, line.y, strict=True) if _shown(up, b)]
        style = f"stroke:var(--s{line.color % SERIES})" + (";stroke-dasharray:5 3" * (line.color >= SERIES))
        faint = ' opacity=".45"' * line.faint
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(Markup(f'<polyline points="{path}" style="{style}"{faint}/>'))
        dots = points if len(points) < 30 else points[-1:]
        parts += [Markup(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2" style="fill:var(--s{line.color % SERIES})"{faint}/>')
                  for a, b in dots]  # fmt: skip
    told = {
        "x": xs, "at": [round(_x(across, v), 1) for v in xs], "name": x_name,
        "lines": [{"name": n.name, "color": n.color % SERIES, "y": [known.get(v) for v in xs]}
                  for n in lines for known in [dict(zip(n.x, n.y, strict=True))]],
    }  # fmt: skip
    return _svg(title, parts, f' data-lines="{escape(str(as_json(told)))}"')


def reliability(title: str, bins: Sequence[tuple[float, float, float]], color: int) -> Markup:
    """Share of right pixels over mean confidence; a bin is (share of all pixels, share right, mean confidence)."""
    unit = Axis(0, 1, [0, 0.25, 0.5, 0.75, 1])
    parts = [_frame(unit, unit, "confidence")]
    parts.append(
        Markup(f'<line class="ideal" x1="{_x(unit, 0)}" y1="{_y(unit, 0)}" x2="{_x(unit, 1)}" y2="{_y(unit, 1)}"/>')
    )
    points = [(_x(unit, c), _y(unit, r)) for _, r, c in bins]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    parts.append(Markup(f'<polyline points="{path}" style="stroke:var(--s{color % SERIES})"/>'))
    for (a, b), (n, r, c) in zip(points, bins, strict=True):
        told = f"confidence {c:.2f}: {r:.2f} right, {n:.1%} of the pixels"
        radius = 2 + 9 * math.sqrt(n)
        dot = f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{radius:.1f}" style="fill:var(--s{color % SERIES})" opacity=".6">'
        parts.append(Markup(f"{dot}<title>{told}</title></circle>"))
    return _svg(title, parts)


def _svg(title: str, parts: Sequence[Markup], more: str = "") -> Markup:
    label = escape(title)
    opening = f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}"{more}>'
    return Markup(opening + "".join(parts) + "</svg>")


def _frame(across: Axis, up: Axis, x_name: str) -> Markup:
    floor = HEIGHT - BOTTOM
    parts = []
    for tick in up.ticks:
        y = f"{_y(up, tick):.1f}"
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y}" dy=".32em" text-anchor="end">{number(tick)}</text>')
    for tick in across.ticks:
        x = f"{_x(across, tick):.1f}"
        parts.append(f'<line class="tick" x1="{x}" x2="{x}" y1="{floor}" y2="{floor + 4}"/>')
        parts.append(f'<text x="{x}" y="{floor + 15}" text-anchor="middle">{number(tick)}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 2}" text-anchor="end">{escape(x_name)}</text>')
    return Markup("".join(parts))


def _whole_ticks(xs: Sequence[float]) -> list[float]:
    wanted = max(1, round(_round_step(max(1.0, (xs[-1] - xs[0]) / 6))))
    ticks = [v for v in xs if v % wanted == 0 or v == xs[0]]
    return [v for i, v in enumerate(ticks) if i == 0 or v - ticks[0] >= wanted / 2]


def _x(a: Axis, value: float) -> float:
    return LEFT + a.share(value) * (WIDTH - LEFT - RIGHT)


def _y(a: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - a.share(value) * (HEIGHT - TOP - BOTTOM)


def _shown(a: Axis, value: float) -> bool:
    return math.isfinite(value) and (value > 0 or not a.log)
