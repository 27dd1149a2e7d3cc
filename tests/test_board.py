"""TensorBoard as people see it, in a real browser, on a study that was really trained; and the events by themselves."""

import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import DATA_TYPE_FLOAT64, DATA_TYPE_STRING

from seglab.run.board import Board, events_until
from seglab.run.board_tables import LAYOUT, layout, precision_recall, table_row
from seglab.run.folder import Run, runs_of
from tests.browser import FIND, Browser

CLASSES = ["background", "building", "vegetation", "water"]
PIXELS = """
return Promise.all(found.map(async e => {
  const bytes = new Uint8Array(await (await fetch(e.src)).arrayBuffer());
  return [e.src, btoa(String.fromCharCode(...bytes))];
}));
"""


@pytest.fixture(scope="module")
def server(study: Path) -> Iterator[str]:
    """The address of a TensorBoard of the study."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(study), "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen([*command, "--load_fast", "false"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        yield next(found[0] for line in process.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+/", line)))
        process.terminate()


@pytest.fixture
def done(study: Path) -> dict[str, Run]:
    return {run.folder.name: run for run in runs_of(study) if run.done}


@pytest.fixture
def show(browser: Browser, server: str, done: dict[str, Run]):
    """`show(tab, query)` opens a tab once TensorBoard has read all runs."""

    def all_read() -> bool:
        browser.open(f"{server}data/plugin/scalars/tags")
        read = json.loads(browser.run("return document.body.textContent"))
        return {name for name, tags in read.items() if "final/miou" in tags} == done.keys()

    def call(tab: str, query: str = "") -> Browser:
        browser.wait(all_read)
        browser.size(1600, 3000)  # what is outside of the viewport is not drawn
        browser.open(f"{server}{query}#{tab}")
        return browser

    return call


def test_curves_of_all_cells_lie_over_each_other(show, done: dict[str, Run]) -> None:
    browser = show("timeseries", "?tagFilter=%5Emiou%2Fval%24")
    columns = ["", "Run", "Smoothed", "Value", "Step", "Relative"]
    size = len(columns) * (1 + len(done))
    cells = browser.wait(lambda: (found := browser.texts("card-view .cell")) and len(found) == size and found)
    head, *table = (cells[i : i + len(columns)] for i in range(0, size, len(columns)))
    assert head == columns
    rows = {run: (float(value), int(step)) for _, run, _, value, step, _ in table}
    last = {name: run.metrics()[-1] for name, run in done.items()}
    assert rows == {name: (pytest.approx(row["val/miou"], abs=1e-4), row["epoch"]) for name, row in last.items()}
    assert not browser.errors()


def test_curves_are_grouped(show, done: dict[str, Run]) -> None:
    browser = show("custom_scalars")
    groups = [
        "mIoU",
        "loss",
        "validation IoU of each class",
        "other validation scores",
        "gradient norm",
        "optimisation",
    ]
    assert browser.wait(lambda: browser.texts(".category-name") == groups)
    charts = [*("validation", "validation", "training"), *CLASSES, *("Dice", "accuracy")]
    charts += ["encoder", "bottleneck", "decoder", "head", "learning rate", "batch norm: batch against running"]
    assert browser.wait(lambda: browser.texts(".heading-label.name") == charts)
    assert browser.wait(lambda: browser.texts(".matches-text") == [f"Matches ({len(done)})"] * len(charts))
    lines = [text.split(maxsplit=1)[1] for text in browser.texts(".match-list-entry")]
    for name in done:
        for tag in ("miou/val", "loss/train", "iou/water/val", "gradient/encoder", "learning_rate"):
            assert lines.count(f"{tag} ({name})") == 1
    assert not browser.errors()


def test_pictures_are_those_of_the_runs(show, done: dict[str, Run]) -> None:
    browser = show("images")
    sources = "img[src*=individualImage]"
    assert browser.wait(lambda: len(browser.texts(sources)) == 2 * len(done))
    shown = set()
    for source, png in browser.run(FIND + PIXELS, sources):
        (key,) = re.findall(r"blob_key=([\w-]+)", source)
        *_, run, tag, step, _ = json.loads(base64.urlsafe_b64decode(key + "=="))
        kept = Image.open(done[run].pictures / f"{tag.split('/')[1]}.png")
        with Image.open(io.BytesIO(base64.b64decode(png))) as picture, kept:
            assert (np.asarray(picture) == np.asarray(kept)).all()
        shown.add((run, tag, step))
    last = {name: run.config()["epochs"] for name, run in done.items()}
    assert shown == {(name, f"{group}/8", last[name]) for name in done for group in ("final", "samples")}
    assert not browser.errors()


def test_the_table_of_runs_sorts_by_final_scores(show, done: dict[str, Run]) -> None:
    browser = show("hparams")

    def table() -> list[dict[str, str]]:
        head = [text for text in browser.texts(".table-header") if text != "Show Metrics"]
        cells = [text for text in browser.texts(".table-cell:not(.table-header)") if text]
        rows = [cells[i : i + len(head)] for i in range(0, len(cells), max(1, len(head)))]
        return [dict(zip(head, row, strict=False)) for row in rows]

    rows = browser.wait(lambda: (found := table()) and len(found) == len(done) and found)
    for row in rows:
        results = done[row.pop("Trial ID")].results()
        assert (row.pop("loss"), row.pop("model")) == (results["loss"], "unet")
        facts = {"epochs": results["epochs"], "seed": 0, "batch size": 4}
        facts |= {name: results["val"][name] for name in ("miou", "dice", "accuracy")}
        facts |= {"best miou": results["best"]["miou"], "best epoch": results["best"]["epoch"]}
        assert {k: float(v) for k, v in row.items()} == pytest.approx(facts, rel=1e-4)
    chosen = "found.filter(e => ['miou', 'Descending'].includes(e.textContent.trim()))"
    browser.run(f"{FIND} {chosen}.forEach(e => e.click())", "paper-item")
    scores = sorted((run.results()["val"]["miou"] for run in done.values()), reverse=True)
    assert browser.wait(lambda: [float(row["miou"]) for row in table()] == pytest.approx(scores, rel=1e-4))
    assert not browser.errors()


def test_pr_curves_of_each_class(show, done: dict[str, Run]) -> None:
    browser = show("pr_curves")
    tags = [f"precision_recall/{name}" for name in CLASSES]
    assert browser.wait(lambda: browser.texts(".heading-label.name") == tags)
    assert not browser.errors()


def test_no_number_is_a_word_in_the_table() -> None:
    settings = {"loss": "dice", "epochs": 20, "learning rate": 1e-3}
    experiment, start, _ = (
        s.value[0].metadata.plugin_data.content for s in table_row(settings, {"final/miou": "miou"})
    )
    columns = metadata.parse_experiment_plugin_data(experiment)
    kinds = {info.name: (info.type, info.differs) for info in columns.hparam_infos}
    numbers, words = DATA_TYPE_FLOAT64, DATA_TYPE_STRING
    assert kinds == {"loss": (words, True), "epochs": (numbers, True), "learning rate": (numbers, False)}
    values = metadata.parse_session_start_info_plugin_data(start).hparams
    assert (values["epochs"].number_value, values["loss"].string_value) == (20, "dice")


@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_precision_and_recall_are_counted_at_every_edge(edge: float) -> None:
    rng = np.random.default_rng(0)
    p, positive = np.append(rng.random(500), edge), rng.random(501) < 0.3
    bins = np.minimum((p * 20).astype(int), 19)
    histogram = np.stack([np.bincount(bins[positive == kind], minlength=20) for kind in (False, True)], 1)
    for threshold, column in zip(np.arange(20) / 20, precision_recall(histogram).T, strict=False):
        chosen = p >= threshold
        tp, fp, fn = (chosen & positive).sum(), (chosen & ~positive).sum(), (~chosen & positive).sum()
        assert column == pytest.approx([tp, fp, 501 - tp - fp - fn, fn, tp / (tp + fp), tp / (tp + fn)])
    assert precision_recall(histogram)[:2, 20].tolist() == [0, 0]


def test_what_is_a_run_s_own_is_not_taken_over(study: Path, tmp_path: Path) -> None:
    (long, short) = (next(r for r in runs_of(study) if f"dice-e{e}" in r.folder.name) for e in (2, 1))
    taken = {value.tag for event in events_until(long.folder, 1) for value in event.summary.value}
    assert {"miou/val", "samples/8"} <= taken
    assert not [tag for tag in taken if tag.startswith(("final/", "_hparams_/", "precision_recall/", LAYOUT))]
    Board(tmp_path, long.folder, 1, layout(CLASSES, False)).close()
    Board(tmp_path, tmp_path, 1, layout(CLASSES, True)).close()
    (content,) = EventAccumulator(str(tmp_path)).Reload().Tensors(LAYOUT)
    assert b"train_scored" in content.tensor_proto.string_val[0]
    assert "hp_metric" not in EventAccumulator(str(short.folder)).Reload().Tags()["scalars"]


def test_a_class_that_does_not_occur_has_no_curve(tmp_path: Path) -> None:
    histogram = np.ones((2, 4, 2), int)
    histogram[1, :, 1] = 0
    board = Board(tmp_path, tmp_path, 0, layout(["here", "absent"], False))
    board.add_pr_curves(3, ["here", "absent"], histogram)
    board.close()
    assert EventAccumulator(str(tmp_path)).Reload().Tags()["tensors"] == [LAYOUT, "precision_recall/here"]
