"""A run folder from elsewhere is data: whatever it says, nothing is run, opened or written by that."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from seglab.config.constructors import TRUST
from seglab.config.foreign import build_reader, check_model, listed
from seglab.config.read import of_data, own_cache
from seglab.config.schema import Config, ConfigError
from tests.foreign import Foreign, foreign, in_an_empty_folder, nothing_here  # noqa: F401 (fixtures)
from tests.test_conf import choices, composed

HERE: dict[str, Any] = {"_target_": "pytorch_lightning.cli.instantiate_class", "args": "touch PWN",
                        "init": {"class_path": "os.system"}}  # fmt: skip
LOADED = {
    "_target_": "pytorch_lightning.core.saving._load_from_checkpoint",
    "checkpoint_path": "x",
    "weights_only": False,
}
DRAWN = {"_target_": "seglab.data.synthetic.ensure_scenes", "cache_dir": "PWN", "num_scenes": 1}
UNET = {"_target_": "seglab.models.unet.UNet", "min_kernel_num": 4, "depth": 2}

OF_MODEL = {
    "a shell command as an argument": {"model.min_kernel_num": HERE},
    "a shell command as the model": {"model": HERE},
    "unpickling": {"model": LOADED},
    "a function that writes": {"model": DRAWN},
    "a function that writes as an argument": {"model.depth": DRAWN},
    "a model as an argument": {"model.depth": UNET},
    "a list of them": {"model.depth": [HERE]},
    "positional arguments": {"model._args_": [HERE]},
    "a partial": {"model._partial_": True},
    "no recursion": {"model._recursive_": False},
    "conversion": {"model._convert_": "object"},
    "another class of ours": {"model._target_": "seglab.run.folder.Run"},
    "a module": {"model._target_": "seglab.config.constructors.importlib.import_module"},
    "no text": {"model._target_": ["os.system"]},
    "no name": {"model._target_": "\x1b[2J"},
    "a variable": {"model.min_kernel_num": "${oc.env:HOME}"},
    "a missing value": {"model.min_kernel_num": "???"},
    "no model": {"model": {}},
    "a giant": {"model.min_kernel_num": 10**9},
    "a tower": {"model.depth": 10**6},
    "a lower tower": {"model.depth": 5000},
    "a wide one": {"model.min_kernel_num": 9000, "model.depth": 10},
}
OF_READER = {
    "a shell command as the reader": {"data.reader": HERE},
    "a shell command in the reader": {"data.reader.palette": HERE},
    "unpickling as the reader": {"data.reader": LOADED},
    "a function that writes as the reader": {"data.reader": DRAWN},
    "positional arguments of the reader": {"data.reader._args_": [HERE]},
    "a variable in the reader": {"data.reader.image_folder": "${oc.env:HOME}"},
    "a reader that leaves its root": {"data.reader.image_folder": "../label"},
    "a reader of everything": {"data.reader.label_folder": "/etc"},
    "a palette that is none": {"data.reader.palette": {"red": "water"}},
    "no reader": {"data.reader": None},
    "a size that is none": {"data.size": [1, 2, 3]},
    "a size of a continent": {"data.size": 10**9},
}
OF_OTHERS = {
    "the root": {"data.root": HERE},
    "a root that writes": {"data.root": DRAWN},
    "the data": {"data._target_": "os.system"},
    "an augmentation": {"data.augment": [HERE]},
    "the optimizer": {"optimizer": HERE},
    "the loss": {"loss": HERE},
    "the schedule": {"schedule": LOADED},
    "the trainer": {"trainer": HERE},
    "the cache": {"data.cache_dir": "PWN"},
    "weights": {"model.encoder_weights": "/dev/zero.pth"},
}


@pytest.mark.parametrize("attack", OF_MODEL)
def test_a_model_is_one_of_conf(foreign: Foreign, attack: str) -> None:  # noqa: F811
    foreign.rewrite(OF_MODEL[attack])
    for command in ("grid", "report", "predict"):
        ended, _ = foreign.call(command)
        assert ended.code == (1 if command == "predict" else 0) and nothing_here(), ended
    assert "model" in ended.err and not foreign.out.exists() and "\x1b" not in ended.err


@pytest.mark.parametrize("attack", OF_READER)
def test_a_reader_is_one_of_conf(foreign: Foreign, attack: str) -> None:  # noqa: F811
    foreign.rewrite(OF_READER[attack])
    for options in ((), ("--data", str(foreign.images))):
        ended, _ = foreign.call("report", *options)
        assert ended.code == 0 and nothing_here()
        page = (foreign.study / "report.html").read_text()
        assert "The data is not at hand (data." in page or "no pair of an image" in page or "not at hand" in page


@pytest.mark.parametrize("attack", OF_OTHERS)
def test_all_else_is_never_made(foreign: Foreign, attack: str) -> None:  # noqa: F811
    if attack == "weights":
        config = yaml.safe_load(foreign.run.config_file.read_text())
        assert "encoder_weights" not in config["model"]
        node = check_model(Config.of(composed("data.root=x", "model=deeplabv3plus", "model.encoder_weights=/x"))).model
        assert node["encoder_weights"] is None
        return
    foreign.rewrite(OF_OTHERS[attack])
    for command in foreign.commands():
        ended, _ = foreign.call(command)
        assert ended.code == 0 and nothing_here(), ended


@pytest.mark.parametrize(
    "text", ["!!python/object/apply:os.system ['touch PWN']", "&a [1]", "*a", "!!binary aGk=", "{" * 100, "2024-99-99"]
)
def test_a_config_is_plain_yaml(foreign: Foreign, text: str) -> None:  # noqa: F811
    foreign.run.config_file.write_text(foreign.run.config_file.read_text() + f"\nmarks: {text}\n")
    said = "".join(str(foreign.call(command)[0]) for command in ("grid", "predict", "audit"))
    assert said.count("config.yaml: ") == 3 and nothing_here()
    assert foreign.call("report")[0].code == 0 and nothing_here()
    assert "config.yaml: " in (foreign.study / "report.html").read_text()


def test_laughs_are_few(foreign: Foreign) -> None:  # noqa: F811
    laughs = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    foreign.run.config_file.write_text(laughs)
    assert "anchors or aliases" in foreign.call("predict")[0].err


def test_the_root_and_the_cache_of_a_folder_are_never_opened(foreign: Foreign, tmp_path: Path) -> None:  # noqa: F811
    trap = tmp_path / "trap"
    for name in ("data", "label", "cache"):
        (trap / name).mkdir(parents=True)
    foreign.rewrite({"data.root": str(trap), "data.cache_dir": str(trap / "cache")})
    for command in foreign.commands():
        ended, watch = foreign.call(command)
        assert ended.code == 0
        assert not [path for path in watch.touched if path.startswith(str(trap))]
    assert 'alt="input"' in (foreign.study / "report.html").read_text(), "images come from the user's own cache"


def test_every_choice_of_conf_may_be_named() -> None:
    assert listed("model")[""] == {composed("data.root=x", f"model={m}")["model"]["_target_"] for m in choices("model")}
    for model in choices("model"):
        check_model(Config.of(composed("data.root=x", f"model={model}")))
    for data in choices("data"):
        build_reader(Config.of(composed(f"data={data}", *(["data.root=x"] if data == "folder" else []))))
    assert "seglab.data.synthetic.ensure_scenes" not in {
        n for names in listed("data", "reader").values() for n in names
    }


def test_the_cache_is_that_of_conf(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("/somewhere/else", None):
        monkeypatch.setenv(*("SEGLAB_CACHE", value)) if value else monkeypatch.delenv("SEGLAB_CACHE", raising=False)
        assert own_cache() == Path(composed("data.root=x")["data"]["cache_dir"]).expanduser()


def test_sizes_and_splits_are_those_of_the_data_module() -> None:
    found = of_data(Config.of(composed("data=folder", "data.root=x", "data.size=[16,24]", "data.val_scenes=[a]")))
    assert found.height_width == (16, 24) and found.val_scenes == ["a"]
    config = composed("data=folder", "data.root=x")["data"]
    assert {name: config[name] for name in type(found).model_fields} == type(found)().model_dump()


def test_a_package_is_trusted_by_its_user_only(foreign: Foreign, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # noqa: F811
    (tmp_path / "otherlab").mkdir()
    (tmp_path / "otherlab" / "__init__.py").write_text("")
    (tmp_path / "otherlab" / "nets.py").write_text(
        "from seglab.models.unet import UNet\n\n\nclass Mine(UNet):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    foreign.rewrite({"model._target_": "otherlab.nets.Mine"})
    assert "(others with --trust PACKAGE)" in foreign.call("predict")[0].err and "otherlab" not in sys.modules
    assert foreign.call("predict", "--trust", "otherla")[0].code == 1, "a package, not the beginning of a name"
    assert foreign.call("predict", "--trust", "otherlab")[0].code == 0 and TRUST not in os.environ
    monkeypatch.setenv(TRUST, "some, otherlab.nets")
    assert foreign.call("predict")[0].code == 0
    for name in [name for name in sys.modules if name.startswith("otherlab")]:
        del sys.modules[name]


def test_keys_of_hydra_are_none_of_a_run_folder() -> None:
    config = Config.of(composed("data=folder", "data.root=x", "model=unet"))
    with pytest.raises(ConfigError, match=r"model\._args_: no such key in the config of a run folder"):
        check_model(config.but(model={**config.model, "_args_": [1]}))
