"""The one way from the command line's overrides to a checked config."""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seglab.config.constructors import check
from seglab.config.messages import one_line
from seglab.config.schema import Config, ConfigError, Names
from seglab.config.trainer import ACCEPTED, check_trainer
from seglab.config.words import mappings, readable, with_plus

if TYPE_CHECKING:
    from hydra.conf import HydraConf
    from omegaconf import DictConfig

CONF = Path(__file__).parent.parent.parent / "conf"
Result = TypeVar("Result")
log = logging.getLogger(__name__)


def config_of(cfg: "DictConfig | Mapping[str, Any] | Config") -> Config:
    """The checked config of a composed one; a Config is one already. Raises ConfigError."""
    if isinstance(cfg, Config):
        return cfg
    composed = {str(k): v for k, v in OmegaConf.create(cfg).items_ex(resolve=False) if k != "hydra"}  # type: ignore[union-attr,arg-type]
    values = mappings(OmegaConf.to_container(OmegaConf.create(composed), resolve=True))
    if isinstance(values.get("optimizer"), str):
        raise ConfigError(_other_optimizer(values["optimizer"]))
    data = values.get("data")
    if isinstance(data, dict) and isinstance(data.get("classes"), dict):  # YAML reads a class `0` as a number
        data["classes"] = {str(name): color for name, color in data["classes"].items()}
    config = Config.of(values)
    if config.data.get("val_scenes") is not None and config.data.get("fold") is not None:
        raise ConfigError(
            "data.fold and data.val_scenes both say what validates; accepted is also data.val_scenes=null"
        )
    check_trainer(config)
    check(config)
    return config


def named(cfg: "DictConfig", hydra: "HydraConf") -> Config:
    """The checked config; `hydra` is Hydra's own node, which knows the file chosen of each group.

    The classes that a data file itself names are all its classes: Hydra adds those of the files that it builds on.
    Raises ConfigError.
    """
    choices = hydra.runtime.choices
    config = config_of(cfg).but(names=Names(**{group: choices[group] for group in Names.model_fields}))
    merged = config.data.get("classes")
    own = _own_classes(choices["data"], [Path(s.path) for s in hydra.runtime.config_sources if s.schema == "file"])
    asked = {word.lstrip("+").partition("=")[0] for word in hydra.overrides.task}
    if not own or "data.classes" in asked or not isinstance(merged, Mapping):
        return config
    added = [name for name in merged if name not in own and f"data.classes.{name}" in asked]
    classes = {name: merged[name] for name in (*own, *added) if name in merged}
    return config.but(data={**config.data, "classes": classes})


def composed(overrides: Sequence[str]) -> Config:
    """The checked config of these overrides of train.py. Raises ConfigError, one line."""
    if not CONF.is_dir():
        raise ConfigError(f"{CONF}: no such folder; seglab needs its own checkout: pip install -e path/to/it")

    def of(words: Sequence[str]) -> Config:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", list(words), return_hydra_config=True)
            return named(cfg, cfg.hydra)

    try:
        return with_missing_plus(of, readable(overrides))
    except (HydraException, OmegaConfBaseException) as e:
        raise ConfigError(one_line(e)) from e


def with_missing_plus(use: Callable[[Sequence[str]], Result], words: Sequence[str]) -> Result:
    """`use(words)`, again with `+` before each key that its constructor takes but that no file of conf/ sets."""
    try:
        return use(words)
    except (HydraException, OmegaConfBaseException) as e:
        better = with_plus(e, words)
        if better is None:
            raise
    for word in set(better) - set(words):
        key = word.partition("=")[0].removeprefix("+trainer.")
        if key in ACCEPTED or not word.startswith("+trainer."):  # else it is refused, with a line of its own
            log.info("%s is read as %s: no file of conf/ sets that key", word[1:], word)
    return with_missing_plus(use, better)


def _own_classes(name: str, folders: Sequence[Path]) -> list[str]:
    """The classes that the data file of this name itself holds; none where it leaves them to its defaults list."""
    path = next((p for p in (folder / "data" / f"{name}.yaml" for folder in folders) if p.is_file()), None)
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path else None
    classes = content.get("classes") if isinstance(content, dict) else None
    return [str(name) for name in classes] if isinstance(classes, dict) else []


def _other_optimizer(name: str) -> str:
    import torch

    found = {n.lower(): made for n, made in vars(torch.optim).items() if inspect.isclass(made)}
    made = found.get(name.lower().rpartition(".")[2])
    if made is None:
        return f"optimizer={name}: accepted is optimizer._target_=torch.optim.AdamW or another class of torch.optim"
    fused = "" if "fused" in inspect.signature(made).parameters else " ~optimizer.fused"
    return f"optimizer={name}: accepted is optimizer._target_=torch.optim.{made.__name__}{fused}"
