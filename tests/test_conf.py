"""Every config composes, is valid, and makes what it names; every wrong one is one clear line."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from seglab.config.compose import config_of
from seglab.config.constructors import TRUSTED, target
from seglab.config.identity import identity
from seglab.config.parts import build_data, build_loss, build_model
from seglab.config.schema import Config, ConfigError
from seglab.data import SegmentationData

CONF = Path(__file__).parent.parent / "conf"


def choices(group: str) -> list[str]:
    return sorted(p.stem for p in (CONF / group).glob("*.yaml"))


def composed(*overrides: str) -> dict:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose("train", list(overrides)), resolve=True)  # type: ignore[return-value]


@pytest.mark.parametrize("name", choices("loss"))
def test_losses(name: str) -> None:
    config = composed(f"loss={name}")
    loss = build_loss(config)
    assert f"{type(loss).__module__}.{type(loss).__name__}".startswith("seglab.losses.")
    assert config["loss"]["_target_"].rpartition(".")[2] == type(loss).__name__


@pytest.mark.parametrize("name", choices("model"))
def test_models(name: str) -> None:
    config = composed(f"model={name}")
    net = build_model(config).eval()
    assert net(torch.zeros(1, 3, 64, 96)).shape == (1, len(config["data"]["classes"]), 64, 96)


@pytest.mark.parametrize("name", choices("data"))
def test_data(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path))
    data = build_data(composed(f"data={name}", *(["data.root=x"] if name in ("folder", "raster") else [])))
    assert isinstance(data, SegmentationData)
    assert list(data.classes) == ["background", "building", "vegetation", "water"]


@pytest.mark.parametrize("name", choices("trainer"))
def test_trainers(name: str) -> None:
    config = composed(f"trainer={name}", "data.root=x")
    assert config_of(config).trainer["_target_"] == "pytorch_lightning.Trainer"
    config["trainer"]["no_such_argument"] = 1
    with pytest.raises(ConfigError, match="no_such_argument: no such key; accepted are accelerator"):
        config_of(config)


@pytest.mark.parametrize("name", choices("experiment"))
def test_experiments(name: str) -> None:
    lines = (CONF / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"  # anywhere else Hydra ignores it without a word
    assert f"experiment={name}" in lines[1] and lines[1].startswith("# python train.py")
    assert config_of(composed(f"experiment={name}")).study == name


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_file_opens_with_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("# ")


WRONG = [
    (["epochs=0"], "epochs=0: input should be greater than 0"),
    (["epochs=two"], "epochs='two': input should be a valid integer"),
    (["epochs=true"], "epochs=True: input should be a valid integer"),
    (["epoch=3"], "epoch: no such key; did you mean epochs? accepted are"),
    (["+epoch=3"], "epoch: no such key; did you mean epochs? accepted are"),
    (["seed=-1"], "seed=-1: input should be greater than or equal to 0"),
    (["precision=fp8"], "precision='fp8': input should be 'auto', '32', 'bf16-mixed' or '16-mixed'"),
    (["study=../up"], "study='../up': string should match pattern"),
    (["loss=lovas"], "loss=lovas: no such loss; did you mean lovasz? accepted are"),
    (["model=vgg"], "model=vgg: no such model; accepted are deeplabv3plus, unet, unet_mobilenetv2"),
    (["data.sise=8"], "data.sise: no such key; did you mean size? accepted are augment"),
    (["+data.sise=8"], "data.sise: no such key of SegmentationData; did you mean size? accepted are"),
    (["data.size=big"], 'data.size="big": accepted is int or list[int] or null'),
    (["data.val_fraction=2"], "data: val_fraction=2: accepted is a share between 0 and 1"),
    (["data.batch_size=2.5"], "data.batch_size=2.5: accepted is int"),
    (["model.depth=0"], "model: depth=0: accepted are whole numbers from 1"),
    (["loss=focal", "loss.gamma=-1"], "loss: gamma -1: expected a number >= 0"),
    (["optimizer.lr=fast"], 'optimizer.lr="fast": accepted is'),
    (["+optimizer.momentum=1"], "optimizer.momentum: no such key of Adam; accepted are"),
    (["+trainer.precision=16"], "trainer.precision can't be set: accepted is precision= without trainer."),
    (["+data.augment.0.q=1"], "data.augment[0].q: no such key of HorizontalFlip"),
    (["loss._target_=os.system"], "loss._target_='os.system': accepted is a class or function of"),
    (["data.root=???"], "data.root must be given"),
    (["epochs="], "epochs"),
    (["epochs=[1"], "epochs=[1"),
]


@pytest.mark.parametrize(("overrides", "message"), WRONG, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_a_wrong_config_is_one_line(train, tmp_path: Path, overrides: list[str], message: str) -> None:
    said, _ = train(*overrides)
    assert said.startswith("train.py: ") and message in said
    assert "\n" not in said and "Traceback" not in said
    assert not any(tmp_path.iterdir()), "a refused command leaves no folder"


@pytest.mark.parametrize(
    "name",
    ["seglab.config.constructors.importlib", "seglab.config.parts.subprocess", "torch.optim.nothing", "torch.load"],
)
def test_a_config_from_elsewhere_runs_only_what_is_ours(name: str) -> None:
    with pytest.raises(ConfigError, match="accepted is a class or function of"):
        target({"_target_": name}, "loss")
    assert all(t.endswith(".") for t in TRUSTED)


def test_what_the_identity_of_a_run_is(tmp_path: Path) -> None:
    def key(*overrides: str, content: str = "c") -> str:
        return identity(config_of(composed("data=folder", "data.root=x", "precision=32", *overrides)), content).key

    same = [
        "epochs=7",
        "study=other",
        "data.root=y",
        "data.num_workers=2",
        "pictures=0",
        "score_train=true",
        "output_dir=z",
    ]
    assert {key(), *(key(o) for o in same)} == {key()}
    others = [
        "seed=1",
        "loss=dice",
        "model=unet",
        "optimizer.lr=0.1",
        "data.size=8",
        "data.augment=[]",
        "precision=bf16-mixed",
    ]
    assert len({key(), *(key(o) for o in others), key(content="d")}) == len(others) + 2
    weights = tmp_path / "w.pth"
    for argument in ("encoder_weights", "weights"):
        keys = set()
        for content in (b"1", b"2"):
            weights.write_bytes(content)
            keys.add(key(f"model.{argument}={weights}"))
        assert len(keys) == 2


def test_a_saved_config_can_be_read_and_used_again(tmp_path: Path) -> None:
    config = composed("data.root=x", "model=unet", "model.min_kernel_num=4")
    OmegaConf.save(config, tmp_path / "c.yaml")
    read = OmegaConf.load(tmp_path / "c.yaml")
    assert read == config
    first, again = (build_model(c).state_dict() for c in (config, read))
    assert {k: v.shape for k, v in first.items()} == {k: v.shape for k, v in again.items()}


def test_the_schema_and_the_yaml_have_the_same_defaults() -> None:
    found = composed()
    parts = {"model", "loss", "data", "trainer", "optimizer", "schedule", "names"}
    assert found.keys() - {"experiment", "hydra"} == Config.model_fields.keys() - {"names"}
    for name, field in Config.model_fields.items():
        if name not in parts:
            assert found[name] == field.default, name


def test_a_training_checks_its_config_once(train, monkeypatch: pytest.MonkeyPatch) -> None:
    from seglab.config import compose as module

    seen = []
    original = module.check
    monkeypatch.setattr(module, "check", lambda config: seen.append(config.epochs) or original(config))
    assert train("epochs=1")[0] == ""
    assert seen == [1]
    assert train("-m", "epochs=1,2")[0] == ""
    assert len(seen) == 1 + 2 + 1  # each combination for the plan, and the job


def test_a_fold_beside_named_scenes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^data\.fold and data\.val_scenes both say what validates"):
        config_of(composed("data=dubai", "data.fold=0"))
    assert config_of(composed("data=dubai", "data.fold=0", "data.val_scenes=null")).data["fold"] == 0
