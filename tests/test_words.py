"""The words of a command line: what Hydra is given, and the one line where its grammar takes no such word."""

import os
import shlex
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from seglab.config.compose import composed
from seglab.config.schema import ConfigError
from seglab.config.words import arranged, readable
from seglab.run.folder import runs_of
from tests.commands import start
from tests.conftest import command


@pytest.mark.parametrize("place", range(3))
def test_options_stand_anywhere(place: int) -> None:
    typed = ["loss=a,b", "epochs=1"]
    typed.insert(place, "-m")
    assert arranged(typed) == ["-m", "loss=a,b", "epochs=1"]


def test_options_keep_their_values() -> None:
    typed = ["a=1", "--cfg", "job", "-cd", "/my/conf", "--info", "b=2"]
    assert arranged(typed) == ["--cfg", "job", "-cd", "/my/conf", "--info=all", "a=1", "b=2"]
    assert arranged(["--info", "defaults", "b=2"]) == ["--info", "defaults", "b=2"]


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("study=2024", ["2024"]),
        ("study=2024_01", ["2024_01"]),
        ("study=a,2024_01,1e3,true", ["a", "2024_01", "1e3", "true"]),
        ("study='2024_01'", ["2024_01"]),
        ("study=choice(a,b)", ["a", "b"]),
        ("output_dir=~/runs", [os.path.expanduser("~/runs")]),
        ("output_dir=~/my (runs)", [os.path.expanduser("~/my (runs)")]),
        ("+data.root=007", ["007"]),
        ("model.encoder_weights=null", [None]),
        ("epochs=20", [20]),
        ('data.reader.palette={"#3c1098": building}', ['{"#3c1098": building}']),
    ],
)
def test_text_stays_text(typed: str, values: list) -> None:
    (word,) = readable([typed])
    assert readable([word]) == [word]
    parsed = OverridesParser.create().parse_override(word)
    found = [*parsed.sweep_string_iterator()] if parsed.is_sweep_override() else [parsed.value()]
    assert [v.strip("\"'") if isinstance(v, str) and len(values) > 1 else v for v in found] == values


def test_none_among_texts_stays_none() -> None:
    (word,) = readable(["model.encoder_weights=null,imagenet,2024"])
    assert [*OverridesParser.create().parse_override(word).sweep_string_iterator()][:2] == ["null", "imagenet"]


@pytest.mark.parametrize("path", ["/a (b)", "/a=b", "/a#b", "/a'b", '/a"b', "/Übersicht", "/a{b}", "/~x"])
def test_the_line_shows_the_quotes_that_work(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        readable([f"data.root={path}"])
    assert str(refused.value).startswith(f"data.root={path}: ") and "\n" not in str(refused.value)
    (shown,) = shlex.split(str(refused.value).rpartition("shell: ")[2])
    assert composed(["data=folder", shown]).data["root"] == path


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("epochs=[1", "epochs=[1: "),
        ("folder", "folder: accepted is key=value"),
        ("hydra.sweeper.params.x=1", "only an experiment file holds sweeps so; accepted is python train.py -m x=1"),
    ],
)
def test_other_words_are_one_line(typed: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        readable([typed])
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_palette_on_the_command_line() -> None:
    palette = {"#c8c8c8": "background", "#d1495b": "void"}
    for typed in ('{"#c8c8c8": background, "#d1495b": void}', "{'#c8c8c8': 'background', '#d1495b': 'void'}"):
        found = composed(["data=folder", "data.root=x", f"data.reader.palette={typed}"])
        assert found.data["reader"]["palette"] == palette


def test_a_key_that_only_the_constructor_knows_needs_no_plus(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    words = ["data=folder", "data.root=x", "optimizer.weight_decay=0.1", "data.reader.image_folder=images"]
    config = composed([*words, "trainer.gradient_clip_val=1.0"])
    assert config.optimizer["weight_decay"] == 0.1 and config.data["reader"]["image_folder"] == "images"
    assert config.trainer["gradient_clip_val"] == 1.0
    assert "optimizer.weight_decay=0.1 is read as +optimizer.weight_decay=0.1" in caplog.text


def test_a_list_of_values_needs_multirun(train, tmp_path: Path) -> None:
    said, _ = train("loss=dice,focal", "epochs=1,2")
    assert said.startswith("train.py: loss=dice,focal: a list of values needs -m: python train.py -m ")
    assert said.endswith("loss=dice,focal epochs=1,2") and "\n" not in said
    with pytest.raises(ConfigError, match=r"data.root=a,b: accepted is one value; one that holds a comma is"):
        composed(["data=folder", "data.root=a,b"])


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("adamw", "optimizer._target_=torch.optim.AdamW"),
        ("RMSprop", "optimizer._target_=torch.optim.RMSprop ~optimizer.fused"),
    ],
)
def test_an_optimizer_by_its_name_alone(name: str, way: str) -> None:
    with pytest.raises(ConfigError) as refused:
        composed(["data.root=x", f"optimizer={name}"])
    assert str(refused.value) == f"optimizer={name}: accepted is {way}"
    composed(["data.root=x", *way.split()])


def test_an_experiment_that_is_not_there(train, tmp_path: Path) -> None:
    for options in ([], ["-m"]):  # and leaves no folder
        assert train("experiment=demoo", *options)[0].startswith(
            "train.py: experiment=demoo: no such experiment; did you mean demo? accepted are demo"
        )
    assert not (tmp_path / "default").exists()
    assert composed(["data.root=x"]).study == "default"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A folder of config files of one's own, beside those of the checkout."""
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "experiment").mkdir()
    return tmp_path / "conf"


def test_a_data_files_own_classes_are_all(conf: Path) -> None:
    classes = {"road": "#ff0000", "background": "#000000"}
    (conf / "data" / "two.yaml").write_text(
        yaml.safe_dump({"defaults": ["folder"], "classes": classes}, sort_keys=False)
    )
    words = ["data=two", "data.root=x", f"hydra.searchpath=[file://{conf}]"]
    assert list(composed(words).classes.items()) == list(classes.items())
    assert list(composed([*words, "+data.classes.rail='#00ff00'"]).classes) == ["road", "background", "rail"]
    assert composed([*words, "data.classes.road='#00ff00'"]).classes == classes | {"road": "#00ff00"}
    assert len(composed(["data=folder", "data.root=x", "+data.classes.rail='#00ff00'"]).classes) == 5
    assert len(composed(["data=tr2"]).classes) == 4
    numbers = {0: "#000000", 1: "#ffffff"}
    (conf / "data" / "two.yaml").write_text(yaml.safe_dump({"defaults": ["folder"], "classes": numbers}))
    assert composed(words).classes == {"0": "#000000", "1": "#ffffff"}
    asked = 'data.classes={"b": "#0000ff", "a": "#00ff00"}'
    assert list(composed(["data=folder", "data.root=x", asked]).classes) == ["b", "a"]


def test_a_home_in_a_file_or_on_the_line_is_no_folder_of_that_name(
    train, conf: Path, tmp_path: Path, monkeypatch
) -> None:
    (conf / "experiment" / "mine.yaml").write_text("# @package _global_\noutput_dir: ~/filed\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    search = f"hydra.searchpath=[file://{conf}]"
    small = [*command(tmp_path / "images", tmp_path, ()), search][1:]
    assert composed([*(w for w in small if "output_dir" not in w), "experiment=mine"]).output_dir == f"{tmp_path}/filed"
    assert train("epochs=1", "output_dir=~/typed", search)[0] == ""
    assert train("epochs=1", "output_dir=~/swept", search, "-m")[0] == ""
    assert {run.folder.parent.parent.name for f in ("typed", "swept") for run in runs_of(tmp_path / f / "default")} == {
        "typed",
        "swept",
    }
    assert not list((tmp_path / "here").iterdir())


def test_what_the_run_folder_says_was_typed(train, tmp_path: Path) -> None:
    assert train("epochs=1", "study=2024_01")[0] == ""
    (run,) = runs_of(tmp_path / "2024_01")
    assert (run.command() or "").endswith("epochs=1 study=2024_01")


def test_a_reader_that_stops_reading_ends_the_training_without_a_trace(images: Path, tmp_path: Path) -> None:
    process = start(images, tmp_path / "out", "epochs=400", "data.batch_size=2")
    process.wait_for("8 images train")
    process.stop_reading()
    code, _, said = process.finished()
    assert code == 141 and "Traceback" not in said and "Error" not in said
    (run,) = runs_of(tmp_path / "out" / "default")
    assert run.results()["status"] == "interrupted"
