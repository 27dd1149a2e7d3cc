"""Every file of a run folder from elsewhere: no link is followed, a wrong one is a sentence, and none is too much."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from seglab.machine.files import write_whole
from seglab.pages.text import printable
from seglab.predict.evaluation.evaluate import Wish, evaluate
from seglab.predict.output.pictures import write_png
from seglab.run.reading import RecordError, is_locked
from seglab.run.records import Records
from tests.foreign import Foreign, foreign, in_an_empty_folder, nothing_here  # noqa: F401 (fixtures)
from tests.study import add_test_scores

LINKS = ["config.yaml", "results.json", "environment.json", "metrics.csv", "validation.csv", "command.txt",
         "checkpoints/last.ckpt", "maps/8.png", "pictures/8.png", "evaluation/test.json"]  # fmt: skip


@pytest.mark.parametrize("name", LINKS)
def test_no_link_is_followed_out_of_the_folder(foreign: Foreign, tmp_path: Path, name: str) -> None:  # noqa: F811
    path = foreign.run.folder / name
    if path.name == "test.json":
        add_test_scores(foreign.run, 0.5)
    if not path.exists():
        path = next(path.parent.glob(f"*{path.suffix}"))
    secret = tmp_path / f"secret{path.suffix}"
    path.rename(secret)
    path.symlink_to(secret)
    for command in foreign.commands():
        _, watch = foreign.call(command)
        assert str(secret) not in watch.touched


def test_links_within_the_folder_and_to_it_are_fine(foreign: Foreign, tmp_path: Path) -> None:  # noqa: F811
    foreign.run.folder.rename(tmp_path / "moved")
    foreign.run.folder.symlink_to(tmp_path / "moved")
    foreign.run.config_file.rename(tmp_path / "moved" / "real.yaml")
    foreign.run.config_file.symlink_to("real.yaml")
    assert {name: foreign.call(name)[0].code for name in foreign.commands()} == dict.fromkeys(foreign.commands(), 0)


def test_looking_whether_a_run_is_held_writes_no_lock(foreign: Foreign, tmp_path: Path) -> None:  # noqa: F811
    precious = tmp_path / "precious"
    precious.write_text("kept")
    foreign.run.results_file.unlink()
    (foreign.run.folder / ".holder").write_text("process 1\x1b[31m")
    (foreign.run.folder / ".lock").unlink(missing_ok=True)
    assert "interrupted" in foreign.call("grid")[0].out and not (foreign.run.folder / ".lock").exists()
    (foreign.run.folder / ".lock").symlink_to(precious)
    assert "interrupted" in foreign.call("grid")[0].out and precious.read_text() == "kept"
    (foreign.run.folder / ".lock").unlink()
    with FileLock(foreign.run.folder / ".lock"):
        assert is_locked(foreign.run.folder / ".lock")
        said = foreign.call("grid")[0].out
        assert "trained by process 1\\x1b[31m" in said and "\x1b" not in said


class Evil:
    def __reduce__(self):
        return os.mkdir, ("PWN",)


def spread(content: dict) -> dict:
    """Weights of a size that no file has, of one number."""
    return content | {"state_dict": {k: torch.zeros(1).expand(1 << 20, 1 << 20) for k in content["state_dict"]}}


CHECKPOINTS = {
    "a pickle": lambda _: pickle.dumps(Evil()),
    "a pickle among tensors": lambda content: content | {"x": Evil()},
    "tensors of one number": spread,
    "no weights": lambda content: content | {"state_dict": {"net.a": "b"}},
    "weights of another model": lambda content: content | {"state_dict": {"net.a": torch.zeros(1)}},
    "a list": lambda _: [1],
    "epochs that are none": lambda content: content | {"progress": {"epochs": "x", "batches": 0}},
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_holds_weights_and_nothing_else(foreign: Foreign, kind: str) -> None:  # noqa: F811
    path = foreign.run.last_checkpoint
    made = CHECKPOINTS[kind](torch.load(path, weights_only=True))
    path.unlink()  # it is best.ckpt, too
    path.write_bytes(made) if isinstance(made, bytes) else torch.save(made, path)
    ended, _ = foreign.call("predict")
    assert ended.code == 1 and "last.ckpt: not a readable checkpoint of this run" in ended.err and nothing_here()


def test_a_checkpoint_that_unpacks_to_more_than_it_is(foreign: Foreign) -> None:  # noqa: F811
    path = foreign.run.last_checkpoint
    path.unlink()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    assert "not a readable checkpoint" in foreign.call("predict")[0].err


UNREADABLE = [
    ("results.json", text)
    for text in ("[1]", "null", '{"status": "x"}', '{"status": "done", "val": {"miou": [1]}}', "[" * 10**5, "{", "",
                 '{"status": "done", "val": {"miou": 1e308}}', '{"status": "done", "val": {"miou": -0.1}}',
                 '{"status": "done", "majority_miou": NaN}', '{"status": "done", "majority_miou": 1e999}',
                 '{"status": "failed", "reason": 3}', '{"status": "failed", "reason": "\\ud800"}',
                 '{"status": "done", "seed": ' + "9" * 5000 + "}", '{"status": "done", "epochs": "many"}')
] + [
    ("environment.json", '{"versions": ["torch"]}'),
    ("environment.json", '{"data": 1}'),
    ("environment.json", "\x00"),
    ("config.yaml", "epochs: 0x" + "f" * 5000),
    ("config.yaml", "? [a]\n: b"),
    ("config.yaml", "epochs: !!int 3"),
    ("config.yaml", "#" * (5 << 20)),
    ("config.yaml", "data: {classes: {" + ", ".join(f"c{i}: '#000000'" for i in range(300)) + "}}"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), UNREADABLE, ids=lambda v: v[:40] if isinstance(v, str) else "")
def test_a_wrong_file_is_a_sentence(foreign: Foreign, name: str, text: str) -> None:  # noqa: F811
    (foreign.run.folder / name).write_text(text)
    said = "this cell can't be read: "
    classes = "c299" in text  # the grid does not need them
    assert said in foreign.call("grid")[0].out or classes
    foreign.call("report")
    page = (foreign.study / "report.html").read_text().replace("&#39;", "'")
    assert said in page and (name in page or classes)


EVALUATIONS = [
    *({"looks": value} for value in (0, 10**30, "1", None)),
    *({"scores": value} for value in ({"miou": 1e308}, {"miou": "0.5"}, {"iou": {"a": {"b": 1}}}, [1], None)),
    *({"boundary_f": value} for value in ({"boundary_f_1px": {"mean": 2, "classes": {}}}, {"x": 1}, "f")),
    *({"split": value} for value in ("train", 1)),
    {"images": -1},
]


@pytest.mark.parametrize("change", EVALUATIONS, ids=str)
def test_a_wrong_evaluation_is_a_sentence_and_the_cell_is_shown(foreign: Foreign, change: dict) -> None:  # noqa: F811
    add_test_scores(foreign.run, 0.5)
    path = foreign.run.evaluations.file("test")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    said = foreign.call("grid")[0].out
    assert "its test scores can't be read (" in said and "test.json" in said and "this cell" not in said


@pytest.mark.parametrize("text", ["[1]", "[" * 10**5, '{"looks": NaN}', "\x00"])
def test_an_evaluation_that_is_none_stops_a_second_look(foreign: Foreign, text: str) -> None:  # noqa: F811
    foreign.rewrite({"data.test_scenes": ["0"]})
    (foreign.run.folder / "evaluation").mkdir()
    foreign.run.evaluations.file("test").write_text(text)
    ended, _ = foreign.call("evaluate", "--split", "test")
    assert ended.code == 1 and "test.json: " in ended.err


def test_no_evaluation_is_written_through_a_link(foreign: Foreign, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "elsewhere").mkdir()
    (foreign.run.folder / "evaluation").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecordError, match="leads out of the run folder; accepted is also --out"):
        evaluate(foreign.run, Wish())
    assert not list((tmp_path / "elsewhere").iterdir())
    (foreign.run.folder / "evaluation").unlink()
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (foreign.run.folder / "evaluation").mkdir()
    for name in ("val.json", "val_images.csv"):
        (foreign.run.folder / "evaluation" / name).symlink_to(precious)
    evaluate(foreign.run, Wish())
    assert precious.read_text() == "kept" and not (foreign.run.folder / "evaluation" / "val.json").is_symlink()


TABLES = [
    ("metrics.csv", "epoch,val/miou\n1,1e308\n"),
    ("metrics.csv", "epoch,val/miou\n1,-1\n"),
    ("metrics.csv", "epoch,val/miou,train/loss\n1,0.5,1e300\n"),
    ("metrics.csv", "epoch,val/miou\n1\n"),
    ("metrics.csv", "epoch,val/miou\nx,0.5\n"),
    ("metrics.csv", "epoch,epoch\n1,2\n"),
    ("metrics.csv", 'epoch,val/miou\n1,"' + "0" * 200_000 + '"\n'),
    ("counts.csv", "epoch,stage,a as a\n1,val,x\n"),
    ("validation.csv", "name,scene\na,b\n"),
    ("validation.csv", "name,scene,a as a\na,b,1e308\n"),
    ("calibration.csv", "from,to,pixels,right,confidence\n0,1,1,2,1\n"),
]


@pytest.mark.parametrize(("name", "text"), TABLES, ids=lambda v: v[:30])
def test_a_wrong_table_is_a_sentence(foreign: Foreign, name: str, text: str) -> None:  # noqa: F811
    (foreign.run.folder / name).write_text(text)
    assert foreign.call("grid")[0].code == 0
    foreign.call("report")
    page = (foreign.study / "report.html").read_text().replace("&#39;", "'")
    assert "1 of 1 cells has a score" in page and "can't be read (" in page and name in page


def test_the_ceiling_of_a_study_is_a_sentence_and_of_a_command_an_error(foreign: Foreign) -> None:  # noqa: F811
    (foreign.study / "audit").mkdir()
    (foreign.study / "audit" / "ceiling.json").write_text('{"miou": 1e308, "iou": {}}')
    assert foreign.call("report")[0].code == 0
    assert "the labellers&#39; ceiling can&#39;t be read" in (foreign.study / "report.html").read_text()
    assert foreign.call("report", "--audit", str(foreign.study / "audit"))[0].code == 1


def test_a_terminal_gets_no_control_characters(foreign: Foreign) -> None:  # noqa: F811
    results = {"status": "failed", "reason": "\x1b[2J\u202eall is well\nexcept this"}
    foreign.run.results_file.write_text(json.dumps(results))
    foreign.rewrite({"names.loss": "di\x07ce\nce"})
    os.rename(foreign.run.folder, os.fsencode(foreign.study) + b"/\x1b[31m\xff")
    ended, _ = foreign.call("grid")
    assert (
        ended.code == 0 and "\\x1b[2J\\u202eall is well\\nexcept this" in ended.out and "\\x1b[31m\\udcff" in ended.out
    )
    assert all(c.isprintable() for line in ended.out.splitlines() for c in line)
    assert foreign.call("report")[0].code == 0
    assert printable("plain, Zürich 漢字") == "plain, Zürich 漢字" and printable("a\nb", keep="\n") == "a\nb"


@pytest.mark.parametrize("write", ["text", "map", "picture"])
def test_a_planted_link_is_replaced_and_not_followed(tmp_path: Path, write: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "study"
    (folder / "maps").mkdir(parents=True)
    path = {"text": folder / "grid.md", "map": folder / "maps" / "a.png", "picture": folder / "a.png"}[write]
    for name in (path, path.with_name(f".{path.name}.{os.getpid()}")):
        name.symlink_to(victim)
    map_of = np.zeros((2, 3), np.uint8)
    {
        "text": lambda: write_whole(path, "grid"),
        "map": lambda: Records(folder).write_map("a", map_of),
        "picture": lambda: write_png(path, (2, 3), 1, iter([map_of]), {}),
    }[write]()
    assert victim.read_text() == "precious"
    assert not path.is_symlink() and path.stat().st_size > 0
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []
