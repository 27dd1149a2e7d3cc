"""A packed study tells what the study told."""

import json
import shutil
from pathlib import Path

import pytest

from seglab.report.cells import cells
from seglab.report.comparison import compare
from seglab.report.rows import read_study as rows_of
from seglab.report.study import read_study
from seglab.run.packed import pack, unpack
from seglab.run.reading import RecordError
from tests.study import CLASSES, add_cell, add_test_scores, draw_labels, spoil
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


def test_counts_keep_the_order_of_each_run_s_classes(tmp_path: Path) -> None:
    labels = draw_labels(3)
    for classes in (CLASSES, dict(reversed(CLASSES.items()))):
        add_cell(tmp_path / "s", "dice", 2, labels, spoil(labels, 0.3), classes=classes)
    pack(tmp_path / "s", tmp_path / "p")
    for run in unpack(tmp_path / "p", tmp_path / "u"):
        name = f"{run.folder.name}/validation.csv"
        assert (tmp_path / "u" / name).read_text() == (tmp_path / "s" / name).read_text()


def test_an_absent_class_keeps_its_column_and_a_run_without_counts_is_packed(tmp_path: Path) -> None:
    labels = draw_labels(3)
    rows = [{**row, "val/iou/tree": float("nan")} for row in metrics(2)]
    run = add_cell(tmp_path / "s", "dice", 2, labels, labels, rows=rows)
    run.records.validation_file.unlink()
    run.environment_file.unlink()
    pack(tmp_path / "s", tmp_path / "p")
    (again,) = unpack(tmp_path / "p", tmp_path / "u")
    assert again.metrics_file.read_text() == run.metrics_file.read_text() and again.records.validation() is None


def test_a_run_of_the_same_identity_and_other_metrics_keeps_its_own(tmp_path: Path) -> None:
    labels = draw_labels(3)
    for rows in (metrics(2), [{**row, "val/loss": 7.0} for row in metrics(3)]):
        run = add_cell(tmp_path / "s", "dice", len(rows), labels, labels, rows=rows)
        run.write_results(run.results() | {"identity": "one"})
    pack(tmp_path / "s", tmp_path / "p")
    for run in unpack(tmp_path / "p", tmp_path / "u"):
        assert run.metrics_file.read_text() == (tmp_path / "s" / run.folder.name / "metrics.csv").read_text()


def test_of_two_runs_of_one_cell_the_same_one_counts(tmp_path: Path) -> None:
    labels = draw_labels(3)
    for finished, share in (("2026-01-02", 0.1), ("2026-01-01", 0.4)):
        run = add_cell(tmp_path / "s", "dice", 2, labels, spoil(labels, share))
        run.write_environment({"code": finished, "finished": finished})
    pack(tmp_path / "s", tmp_path / "p")
    unpack(tmp_path / "p", tmp_path / "u")
    assert [cells(tmp_path / name)[0].folder for name in "su"] == ["unet-0-e2-s0"] * 2


def test_nothing_is_packed_into_a_study_or_a_run(study: Path, tmp_path: Path, seglab) -> None:
    run = next(study.glob("*/"))
    shutil.copytree(run, tmp_path / "elsewhere")
    before = (run / "metrics.csv").read_text()
    for out in (study, run, study / "packed", tmp_path / "elsewhere"):
        ended = seglab("pack", study, "--out", out)
        assert ended.code == 1 and "a place of run folders; accepted is a folder elsewhere" in ended.err
    assert (run / "metrics.csv").read_text() == before == (tmp_path / "elsewhere" / "metrics.csv").read_text()


def _changed_runs(**changes: object):
    def change(packed: Path) -> None:
        content = json.loads((packed / "runs.json").read_text())["runs"]
        first = next(iter(content.values()))
        (packed / "runs.json").write_text(json.dumps({"runs": content | {next(iter(content)): first | changes}}))

    return change


def _replaced(file: str, old: str, new: str):
    return lambda packed: (packed / file).write_text((packed / file).read_text().replace(old, new))


FORGED = [
    (_replaced("counts.csv", ",file,", ",which,"), "counts.csv: columns ['run', 'which'"),
    (_replaced("metrics.csv", "run,", "cell,"), "metrics.csv: columns ['cell', 'epoch'"),
    (_replaced("counts.csv", "unet-0-", "unet-9-"), "rows of 'unet-9-e3-s0', a run that runs.json does not name"),
    (_replaced("counts.csv", ",validation,", ",best,"), "counts.csv: counts of 'best'"),
    (_replaced("counts.csv", "roof as roof", "roof"), "counts.csv: 'roof' is a column, or one of the pairs"),
    (lambda packed: (packed / "counts.csv").unlink(), "counts.csv"),
    (_changed_runs(metrics_of="nobody"), "metrics.csv: 0 rows of 'nobody'; 'unet-0-e3-s0' had 3 epochs"),
    (_changed_runs(results={"status": "done", "val": {"miou": 5}}), "runs.json: runs.unet-0-e3-s0.results="),
    (_changed_runs(evaluations={"val": {}}), "runs.json: runs.unet-0-e3-s0.evaluations="),
    (_replaced("runs.json", '"unet-3-e5-s0": {', '"a\\u0000b": {'), "'a\\x00b' is no name of a run folder"),
    (_replaced("runs.json", '"unet-3-e5-s0": {', f'"{"x" * 300}": {{'), "xxx' is no name of a run folder"),
]


def test_a_forged_package_is_one_line_and_leaves_nothing(study: Path, tmp_path: Path, seglab) -> None:
    pack(study, tmp_path / "p")
    for i, (change, said) in enumerate(FORGED):
        packed = shutil.copytree(tmp_path / "p", tmp_path / f"p{i}")
        change(packed)
        ended = seglab("unpack", packed, "--out", tmp_path / "new")
        assert ended.code == 1 and ended.err.count("\n") == 1 and said in ended.err
        assert not (tmp_path / "new").exists() or not any((tmp_path / "new").iterdir())
