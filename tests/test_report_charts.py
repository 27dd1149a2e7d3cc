"""Charts: round ticks, points in their places, gaps, and names that are only text."""

import base64
import io
import json
import re
from html import unescape

import numpy as np
import pytest
from PIL import Image

from seglab.report.charts import HEIGHT, Line, axis, line_chart, number, reliability
from seglab.report.page import expected_calibration_error
from seglab.report.wall import flat_picture

NAN = float("nan")


@pytest.mark.parametrize(("values", "log", "ticks"), [
    ([0.12, 0.38], False, [0.1, 0.2, 0.3, 0.4]),
    ([0.002, 50], True, [1e-3, 1e-2, 0.1, 1, 10, 100]),
    ([3.0, 3.0], False, [1, 2, 3, 4, 5]),
    ([NAN], False, [0.5, 0.75, 1, 1.25, 1.5]),
    ([0.0, 5.0], True, [1, 10]),
])  # fmt: skip
def test_ticks_are_round_and_hold_all_values(values: list[float], log: bool, ticks: list[float]) -> None:
    made = axis(values, log)
    assert made.ticks == pytest.approx(ticks)
    assert made.low <= ticks[0] and made.high >= ticks[-1]


@pytest.mark.parametrize(("value", "text"), [
    (0, "0"), (0.25, "0.25"), (0.00025, "2.5e-4"), (0.001, "0.001"), (1234, "1234"), (1e6, "1e6"),
])  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_a_curve_is_where_its_values_are_and_has_gaps() -> None:
    name = "</script><b>\"'{{ x }}"
    drawn = str(line_chart(name, [Line(name, [1, 2, 3], [0.0, NAN, 1.0], 0)], y=axis([0, 1])))
    (points,) = re.findall(r'polyline points="([^"]*)"', drawn)
    assert [p.split(",")[1] for p in points.split()] == [f"{HEIGHT - 30:.1f}", "10.0"]
    assert "<b>" not in drawn and "</script>" not in drawn
    told = json.loads(unescape(re.findall(r'data-lines="([^"]*)"', drawn)[0]))
    assert told["lines"] == [{"name": name, "color": 0, "y": [0.0, None, 1.0]}] and told["x"] == [1, 2, 3]


def test_a_chart_without_any_value() -> None:
    assert "<svg" in line_chart("nothing", [Line("a", [1], [NAN], 0)], log=True)
    assert "<svg" in reliability("nothing", [], 0)


def test_calibration_error_by_hand() -> None:
    bins = np.array([[0, 0, 0], [100, 50, 70.0], [300, 270, 270.0]])
    assert expected_calibration_error(bins) == pytest.approx(20 / 400)


def test_a_flat_picture_keeps_every_class() -> None:
    ids = np.random.default_rng(0).integers(0, 5, (20, 30)).astype(np.uint8)
    colors = ["#000000", "#ffffff", "#ff0000", "#00ff00", "#0000ff"]
    uri = flat_picture(ids, colors)
    back = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    assert (np.asarray(back.convert("RGB"))[ids == 2] == [255, 0, 0]).all() and (np.asarray(back) == ids).all()
