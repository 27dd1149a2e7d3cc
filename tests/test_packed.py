"""A packed study tells what the study told."""

import json
import shutil
from pathlib import Path

import pytest

from seglab.report.comparison import compare
from seglab.report.rows import read_study as rows_of
from seglab.report.study import read_study
from seglab.run.packed import pack, unpack
from seglab.run.reading import RecordError
from tests.study import add_cell, add_test_scores, draw_labels, spoil
from tests.study import rows_of as metrics


@pytest.fixture
def study(tmp_path: Path) -> Path:
    labels = draw_labels(12)
    for loss, share in (("good", 0.1), ("bad", 0.3)):
        for epochs in (3, 5):
            run = add_cell(tmp_path / "study", loss, epochs, labels, spoil(labels, share), scenes=["a", ""] * 6)
            run.write_results(run.results() | {"identity": loss, "epochs": epochs})
    add_test_scores(run, 0.5, identity="bad")
    add_cell(tmp_path / "study", "good", 9, labels, None)
    return tmp_path / "study"


def test_grid_comparison_and_curves_are_those_of_the_study(study: Path, tmp_path: Path) -> None:
    assert [path.name for path in pack(study, tmp_path / "packed")] == ["runs.json", "counts.csv", "metrics.csv"]
    again = tmp_path / "again"
    assert len(unpack(tmp_path / "packed", again)) == 4
    assert rows_of(again) == [row for row in rows_of(study) if row["status"] == "done"]
    (before,), (after,) = read_study(study), read_study(again)
    assert compare(after).sentence == compare(before).sentence
    told = {e.cell.folder: e for e in before.done}
    for e in after.entries:
        assert e.metrics == told[e.cell.folder].metrics and len(e.metrics) == e.cell.epochs
        assert e.validation and e.validation.scenes == ["a", ""] * 6
        assert (e.validation.confusion == told[e.cell.folder].validation.confusion).all()
    pack(again, tmp_path / "twice")
    for path in (tmp_path / "packed").iterdir():
        assert path.read_text() == (tmp_path / "twice" / path.name).read_text()


def test_the_metrics_of_a_row_are_kept_once(study: Path, tmp_path: Path) -> None:
    pack(study, tmp_path / "packed")
    assert len((tmp_path / "packed" / "metrics.csv").read_text().splitlines()) == 1 + 5 + 5


def test_names_that_lead_elsewhere_are_refused(study: Path, tmp_path: Path) -> None:
    pack(study, tmp_path / "packed")
    path = tmp_path / "packed" / "runs.json"
    content = json.loads(path.read_text())["runs"]
    for name in ("../up", "/tmp", ".hidden", ""):
        path.write_text(json.dumps({"runs": {name: next(iter(content.values()))}}))
        with pytest.raises(RecordError, match="is no name of a run folder"):
            unpack(tmp_path / "packed", tmp_path / "out")
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_what_is_no_study_is_one_line(study: Path, tmp_path: Path, seglab) -> None:
    (tmp_path / "empty").mkdir()
    assert "no finished run in it" in seglab("pack", tmp_path / "empty", "--out", tmp_path / "p").err
    assert seglab("pack", study, "--out", tmp_path / "p").code == 0
    assert "not empty; accepted is a new folder" in seglab("unpack", tmp_path / "p", "--out", study).err
    (tmp_path / "p" / "runs.json").write_text('{"runs": {"a": {"config": 1}}}')
    ended = seglab("unpack", tmp_path / "p", "--out", tmp_path / "new")
    assert ended.code == 1 and ended.err.count("\n") == 1 and "runs.json" in ended.err
    assert seglab("unpack", tmp_path / "nowhere", "--out", tmp_path / "new").code == 1


def test_metrics_with_other_columns_stay_apart(tmp_path: Path) -> None:
    labels = draw_labels(2)
    for i, more in enumerate(({}, {"train_scored/miou": 0.5})):
        add_cell(tmp_path / "s", f"l{i}", 2, labels, labels, rows=metrics(2, **more))
    pack(tmp_path / "s", tmp_path / "p")
    unpack(tmp_path / "p", tmp_path / "u")
    for name in ("metrics.csv", "validation.csv"):
        for path in sorted((tmp_path / "s").glob(f"*/{name}")):
            assert path.read_text() == (tmp_path / "u" / path.parent.name / name).read_text()
