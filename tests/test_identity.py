"""A cell is a fact: what its identity covers, and one result for each cell of a study whatever its versions."""

import csv
import json
import os
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seglab.config import code, identity
from seglab.config.compose import config_of
from seglab.config.constructors import targets
from seglab.report.page import write_report
from seglab.report.tables import write_grid
from seglab.run.folder import Run, runs_of
from seglab.sweep.plan import trainings
from tests.commands import Started
from tests.conftest import ROOT
from tests.test_conf import composed
from tests.test_report_page import text_of

MOVES_NO_WEIGHT = {
    "config/compose.py": "its result, the config, is part of an identity",
    "config/constructors.py": "the same",
    "config/messages.py": "words",
    "config/schema.py": "the config again",
    "config/trainer.py": "the config again",
    "config/words.py": "the config again",
    "labels.py": "of a training only as far as its loss and data import it",
    "machine/processes.py": "picks a device, which an identity names",
    "machine/signals.py": "stops at a step's end",
    "maps/scoring.py": "scores",
    "models/inference.py": "of a copy that is scored",
    "profile/phases.py": "watches a clock",
    "run/checkpoints.py": "saves and reads what is hashed otherwise: a damaged file is never used",
    "run/evaluations.py": "keeps records",
    "run/folder.py": "keeps records",
    "run/metrics.py": "keeps records",
    "run/reading.py": "keeps records",
    "run/records.py": "keeps records",
    "run/shapes.py": "keeps records",
    "scores.py": "scores",
    "machine/imports.py": "when garbage is collected",
    "task/finite.py": "ends a training that is no longer one",
    "task/schedules.py": "as the config's own constructor",
}
"""Files that the modules of every training import and that are no part of an identity by that, each with the reason."""


def relative(paths: set[Path]) -> set[str]:
    return {path.relative_to(code.PACKAGE).as_posix() for path in paths}


def test_every_file_that_trains_is_hashed_or_excused() -> None:
    steps = relative({path for name in code.STEPS if (path := code.source(name))})
    assert len(steps) == len(code.STEPS)
    named = relative(code.imported(["seglab.data.module", "seglab.models.network"])) - {"labels.py"}  # by every config
    assert relative(code.imported(code.STEPS)) - steps - named == set(MOVES_NO_WEIGHT)


def files_of(*overrides: str) -> set[str]:
    facts = config_of(composed("data=folder", "data.root=x", *overrides)).select(lambda role: role.weights)
    return relative(code.files(made.__module__ for node in facts.values() for made in targets(node)))


def test_a_cell_is_hashed_by_the_files_that_it_executes() -> None:
    found = files_of("loss=lovasz", "model=unet")
    assert {"losses/lovasz.py", "losses/lovasz_sorted.py", "labels.py", "models/unet.py", "models/network.py"} <= found
    data = {"module", "kept/cache", "folder", "split", "augment/transforms"}
    assert {f"data/{name}.py" for name in data} <= found
    assert "task/schedules.py" in found
    assert not {"losses/focal.py", "losses/__init__.py", "models/deeplabv3plus.py", "scores.py"} & found
    compound = files_of("loss=dice_focal")
    assert {"losses/compound.py", "losses/overlap.py", "losses/focal.py"} <= compound
    assert "losses/lovasz.py" not in compound
    assert "data/synthetic.py" not in files_of("data=synthetic"), "the content of the data says what was drawn"


def test_packages_of_others_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "other_package"
    package.mkdir()
    sources = {
        "__init__.py": "from .loss import Loss\n",
        "loss.py": "from typing import TYPE_CHECKING\nimport numpy\nfrom . import parts as p\nLoss = dict\n"
        "from other_package.names import constant\nif TYPE_CHECKING:\n    from . import typed\n",
        "parts.py": "SETTING = 1\n",
        "names.py": "from seglab.labels import VOID\nconstant = VOID\n",
        "typed.py": "",
        "unused.py": "",
    }
    for name, text in sources.items():
        (package / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    code.source.cache_clear()
    found = {path.name for path in code.imported(["other_package.loss"])}
    assert found == {"loss.py", "parts.py", "names.py", "labels.py"}
    before = code.code_hash(["other_package.loss"])
    (package / "unused.py").write_text("# another")
    assert code.code_hash(["other_package.loss"]) == before
    (package / "parts.py").write_text("SETTING = 2\n")
    assert code.code_hash(["other_package.loss"]) != before
    (package / "__init__.py").write_text(sources["__init__.py"] + "SWITCH = True\n")  # no longer only re-exports
    assert "__init__.py" in {path.name for path in code.imported(["other_package.loss"])}


def edited(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Lets some files of the package read as if they had a line more."""
    original = Path.read_bytes
    paths = {code.PACKAGE / name for name in names}
    monkeypatch.setattr(Path, "read_bytes", lambda self: original(self) + b"\n# edited\n" * (self in paths))


def key(*overrides: str) -> str:
    return identity.identity(config_of(composed("data=folder", "data.root=x", "threads=1", *overrides)), "c").key


@pytest.mark.parametrize(
    "name", [*(f"{s.removeprefix('seglab.').replace('.', '/')}.py" for s in code.STEPS), "labels.py"]
)
def test_an_edit_of_what_trains_changes_every_identity(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key("loss=dice"), key("loss=focal", "model=unet")
    edited(monkeypatch, name)
    assert key("loss=dice") != before[0] and key("loss=focal", "model=unet") != before[1]


def test_an_edit_of_one_loss_or_of_the_scores_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key("loss=dice"), key("loss=focal")
    edited(monkeypatch, "losses/focal.py", "losses/__init__.py", "scores.py", "report/page.py", "training/recorder.py")
    assert key("loss=dice") == before[0] and key("loss=focal") != before[1]


METRIC = '''

def worst_iou(counts: np.ndarray) -> np.ndarray:
    """The lowest IoU of the classes that occur."""
    return np.nanmin(iou_per_class(counts), -1)
'''


def as_typed_in(folder: Path, arguments: list[str]) -> None:
    """train.py of another project: nothing of this one stays imported."""
    for name in [n for n in sys.modules if n.startswith(("seglab", "train", "hydra_plugins.seglab"))]:
        del sys.modules[name]
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != ROOT]
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")
    assert Path(sys.modules["seglab"].__path__[0]).parent == folder


def run_copy(copy: Path, *overrides: str) -> str:
    environment = os.environ | {"SEGLAB_CACHE": str(copy.parent / "cache"), "OMP_NUM_THREADS": "1"}
    small = ("model=unet", "model.min_kernel_num=4", "model.depth=2", "pictures=1", "precision=32")
    arguments = ["train.py", "-m", *overrides, *small]
    code, printed, said = Started(as_typed_in, copy, arguments, environment=environment).finished()
    assert code == 0, printed + said
    return printed


def test_a_loss_and_a_metric_are_added_and_nothing_is_trained_again(images: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "tests", "*.png", "outputs")
    shutil.copytree(ROOT, copy, ignore=ignored)
    data = ("data=folder", f"data.root={images}", "epochs=1,2")
    said = run_copy(copy, "loss=dice", *data)
    assert "2 cells in 1 trainings: 2 epochs to train" in said
    before = {run.folder.name: run.last_checkpoint.stat().st_mtime_ns for run in runs_of(copy / "outputs/default")}
    readme = (ROOT / "README.md").read_text()
    (python,), (yaml,) = (re.findall(rf"```{kind}\n(.*?)```", readme, re.S) for kind in ("python", "yaml"))
    (copy / "seglab/losses/mean_absolute_error.py").write_text(python)
    (copy / "conf/loss/mean_absolute_error.yaml").write_text(yaml)
    scores = copy / "seglab/scores.py"
    entry = '    Score("worst_iou", "worst IoU", worst_iou),\n'
    text = scores.read_text().replace("\n\ndef dice_per_class", METRIC + "\n\ndef dice_per_class")
    scores.write_text(text.replace('    Score("dice"', entry + '    Score("dice"'))

    said = run_copy(copy, "loss=dice,mean_absolute_error", *data)
    assert "4 cells in 2 trainings: 2 epochs to train" in said
    runs = {run.folder.name: run for run in runs_of(copy / "outputs/default")}
    assert len(runs) == 4 and {name: runs[name].last_checkpoint.stat().st_mtime_ns for name in before} == before
    rows = list(csv.DictReader((copy / "outputs/default/grid.csv").read_text().splitlines()))
    assert [(row["loss"], row["epochs"], row["status"]) for row in rows] == [
        *(("dice", "1", "done"), ("dice", "2", "done")),
        *(("mean_absolute_error", "1", "done"), ("mean_absolute_error", "2", "done")),
    ]
    for row in rows:  # of the finished cells from their kept counts
        worst = min(float(v) for k, v in row.items() if k.startswith("iou.") and v)
        assert float(row["worst_iou"]) == worst
    new = next(run for name, run in runs.items() if "mean_absolute_error-e2" in name)
    table = list(csv.DictReader(new.metrics_file.read_text().splitlines()))
    assert [float(row["val/worst_iou"]) >= 0 for row in table] == [True, True]
    assert json.loads(new.results_file.read_text())["val"]["worst_iou"] == float(table[-1]["val/worst_iou"])
    tags = EventAccumulator(str(new.folder)).Reload().Tags()["scalars"]
    assert {"worst_iou/val", "final/worst_iou"} <= set(tags)
    page = text_of(copy / "outputs/default/report.html")
    assert "validation worst IoU" in page and "mIoU worst IoU Dice accuracy" in page

    said = run_copy(copy, "loss=dice", "data=folder", f"data.root={images}", "epochs=3")
    longer = Run(next((copy / "outputs/default").glob("unet-dice-e3-*")))
    table = list(csv.DictReader(longer.metrics_file.read_text().splitlines()))
    assert all(float(row["val/worst_iou"]) >= 0 for row in table), "epochs taken over have the newer score, too"
    points = EventAccumulator(str(longer.folder)).Reload().Scalars("worst_iou/val")
    assert [p.step for p in points] == [1, 2, 3]


def grid(study: Path) -> tuple[list[dict[str, str]], str, str]:
    """Rows of grid.csv, grid.md and the report's words."""
    said = write_grid(study)
    return list(csv.DictReader((study / "grid.csv").read_text().splitlines())), said, text_of(write_report(study))


def test_the_newest_of_two_code_versions_counts(train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train("-m", "epochs=1,2")[0] == ""
    monkeypatch.setattr(identity, "code_hash", lambda _: "another version")
    message, said = train("epochs=2")
    assert message == "" and " starts again: unet-cross_entropy-e2-s0-" in said and "differs in code" in said
    rows, markdown, page = grid(tmp_path / "default")
    assert [(r["epochs"], r["status"], bool(r["miou"])) for r in rows] == [
        ("1", "done", True), ("2", "done", True), ("2", "superseded", False),
    ]  # fmt: skip
    newest = max(runs_of(tmp_path / "default"), key=lambda run: run.finished).folder.name
    assert rows[1]["folder"] == newest and f"done; {newest} counts; differs in code" in rows[2]["reason"]
    assert "n=" not in markdown and f"superseded: cross_entropy, 2 epochs, seed 0 ({rows[2]['folder']})" in markdown
    assert "2 of 2 cells have a score" in page and "mean of 2 seeds" not in page
    assert f"{rows[2]['folder']} done; {newest} counts; differs in code" in page


def test_a_cell_on_another_device_starts_again_and_says_why(
    train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seglab.training.recorder import Recorder

    original = Recorder.on_train_epoch_end

    def killed(self, trainer, task) -> None:
        original(self, trainer, task)
        raise RuntimeError("killed")

    monkeypatch.setattr(identity, "computing_device", lambda *_: "NVIDIA A")
    monkeypatch.setattr(Recorder, "on_train_epoch_end", killed)
    assert "killed" in train("epochs=2")[0]
    monkeypatch.setattr(Recorder, "on_train_epoch_end", original)
    monkeypatch.setattr(identity, "computing_device", lambda *_: "NVIDIA B")
    message, said = train("epochs=2")
    assert message == "" and "differs in device (NVIDIA A there, NVIDIA B here)" in said and "resumes from" not in said
    rows, _, page = grid(tmp_path / "default")
    assert [r["status"] for r in rows] == ["done", "superseded"] and "differs in device" in rows[1]["reason"]
    assert "1 of 1 cells has a score" in page


def test_a_plan_made_elsewhere_finds_its_cells(train, images: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SEGLAB_CACHE", str(images.parent / "cache"))
    overrides = ("data=folder", f"data.root={images}", "model=unet", "model.min_kernel_num=4", "model.depth=2")
    small = (*overrides, "data.batch_size=4", "pictures=1", f"output_dir={tmp_path}")
    names = {"model": "unet", "loss": "cross_entropy", "data": "folder", "trainer": "auto"}
    jobs = [((), config_of(composed(*small, f"epochs={n}") | {"names": names})) for n in (1, 2)]
    (row,) = trainings(jobs, trains_here=False)
    assert not row.done and row.cost == 2
    monkeypatch.setattr(identity, "computing_device", lambda *_: "NVIDIA A")
    assert train("precision=auto", "epochs=1")[0] == ""
    (row,) = trainings(jobs, trains_here=False)
    assert [cell.run.done for cell in row.cells] == [True, False] and row.cost == 2
    assert train("precision=auto", "epochs=2")[0] == ""
    monkeypatch.undo()
    monkeypatch.setenv("SEGLAB_CACHE", str(images.parent / "cache"))
    (row,) = trainings(jobs, trains_here=False)
    assert row.done and row.cost == 0
    (here,) = trainings(jobs)
    assert not here.done, "on this device it was not trained"


def test_two_data_roots_are_two_tables(train, images: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(images, other)
    same = tmp_path / "same"
    shutil.copytree(images, same)
    shutil.copy(other / "label" / "0.png", other / "label" / "1.png")
    for root in (images, other, same):
        assert train("epochs=1", f"data.root={root}", "seed=0")[0] == ""
    rows, markdown, page = grid(tmp_path / "default")
    assert len(rows) == 2 and len({r["table"] for r in rows}) == 2
    assert {r["table"] for r in rows} == {f"unet, folder, data.root={root}" for root in (images, other)}
    assert "n=" not in markdown and "2 of 2 cells have a score" in page


def test_records_split_no_table(train, tmp_path: Path) -> None:
    assert train("epochs=1")[0] == ""
    records = ("on_error=stop", "share=false", "checkpoint_every_steps=2", "checkpoint_every_minutes=1", "threads=1")
    assert train("epochs=1", "loss=dice", *records, "pictures=0", "score_train=true")[0] == ""
    rows, _, _ = grid(tmp_path / "default")
    assert [(r["table"], r["loss"]) for r in rows] == [("unet, folder", "cross_entropy"), ("unet, folder", "dice")]


def test_a_config_of_an_earlier_version_is_read(train, tmp_path: Path) -> None:
    assert train("epochs=1")[0] == ""
    (run,) = runs_of(tmp_path / "default")
    text = run.config_file.read_text().replace("seglab.task.schedules.", "seglab.schedules.")
    run.config_file.write_text(text)
    environment = run.environment()
    run.write_environment({k: v for k, v in environment.items() if k not in ("settings", "data", "finished")})
    assert train("epochs=1", "loss=dice")[0] == ""
    rows, _, _ = grid(tmp_path / "default")
    assert [r["status"] for r in rows] == ["done", "done"]
    assert "schedule" not in rows[0]["table"]


def test_cells_of_two_versions_or_devices_in_one_table_are_named(train, tmp_path: Path, monkeypatch) -> None:
    assert train("-m", "epochs=1", "loss=dice", "seed=0,1")[0] == ""
    _, markdown, page = grid(tmp_path / "default")
    assert "versions of the code" not in markdown + page
    monkeypatch.setattr(identity, "code_hash", lambda _: "another version")
    assert train("epochs=1", "loss=dice", "seed=0")[0] == ""
    _, markdown, page = grid(tmp_path / "default")
    said = "The cells of dice were trained by 2 versions of the code."
    assert said in markdown and said in page and "kinds of device" not in markdown
    monkeypatch.setattr(identity, "computing_device", lambda *_: "NVIDIA A")
    assert train("epochs=1", "loss=focal")[0] == ""
    _, markdown, page = grid(tmp_path / "default")
    assert "2 kinds of device (NVIDIA A, cpu, " in markdown and "2 kinds of device" in page


def test_a_field_without_a_role_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from pydantic.fields import FieldInfo

    from seglab.config import schema

    monkeypatch.setitem(schema.Config.model_fields, "note", FieldInfo(annotation=str, default=""))
    with pytest.raises(TypeError, match=r"Config\.note has 0 roles"):
        schema._role("note")
