"""From the composed config to objects and to their identity; besides train.py the only room that knows Hydra."""

import logging
import os
import shutil
import sys
import sysconfig
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.profilers import Profiler

from seglab.config.schema import ConfigError, check
from seglab.data import SegmentationData
from seglab.machine.precision import on_cpu, resolved_precision
from seglab.models.network import Network
from seglab.task.schedules import Constant
from seglab.task.task import SegmentationTask

if TYPE_CHECKING:
    from omegaconf import DictConfig

BOOKKEEPING = (
    *("epochs", "marks", "study", "output_dir", "names", "share", "on_error", "threads", "profile", "benchmark"),
    *("score_train", "pictures", "picture_every", "pr_curves", "checkpoint_every_steps", "checkpoint_every_minutes"),
)
"""Root keys that leave the weights alone: two runs that differ only here do the same steps."""


def plain(cfg: "DictConfig | Mapping[str, Any]") -> dict[str, Any]:
    """The resolved config as plain dictionaries and lists; those it is made of already are taken as they are."""
    if isinstance(cfg, dict) and not any(OmegaConf.is_config(value) for value in cfg.values()):
        return cfg
    return OmegaConf.to_container(OmegaConf.create(cfg), resolve=True)  # type: ignore[arg-type,return-value]


logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # below that it advertises


def named(cfg: "DictConfig", choices: Mapping[str, str]) -> dict[str, Any]:
    """The resolved and checked config, with the file chosen of each group under `names`. Raises ConfigError."""
    with_hydra = plain({str(k): v for k, v in cfg.items_ex(resolve=False) if k != "hydra"})
    config = with_hydra | {"names": {group: choices[group] for group in ("model", "loss", "data", "trainer")}}
    check(config)
    precision = resolved_precision(config["precision"], config["trainer"]["accelerator"])
    return config | {"precision": precision, "threads": config["threads"] or torch.get_num_threads()}


def build_model(cfg: "DictConfig | Mapping[str, Any]") -> Network:
    """The network that `cfg.model` names, its weights a function of `cfg.seed`."""
    config = plain(cfg)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        net = _made("model", config, num_classes=len(config["data"]["classes"]))
    accelerator = config["trainer"]["accelerator"]
    full = resolved_precision(config["precision"], accelerator) == "32"
    on_cpu = accelerator == "cpu" or not torch.cuda.is_available()
    return net.lay_out(net.float32_layout if full and on_cpu else torch.channels_last)


def build_loss(cfg: "DictConfig | Mapping[str, Any]") -> torch.nn.Module:
    """The loss that `cfg.loss` names."""
    return _made("loss", plain(cfg))


def build_schedule(cfg: "DictConfig | Mapping[str, Any]") -> Constant:
    """The learning rate schedule that `cfg.schedule` names."""
    return _made("schedule", plain(cfg))


def build_data(cfg: "DictConfig | Mapping[str, Any]") -> SegmentationData:
    """The data that `cfg.data` names; nothing is read yet."""
    config = plain(cfg)
    return _made("data", config, seed=config["seed"], score_train=config["score_train"])


def build_task(cfg: "DictConfig | Mapping[str, Any]") -> SegmentationTask:
    """Network, loss, optimiser and schedule in one LightningModule."""
    config = plain(cfg)
    parts = build_model(config), build_loss(config), _made("optimizer", config), build_schedule(config)
    if config["compile"]:
        torch.compiler.reset()  # else code of the trainings before counts against the limit to what may be compiled
    return SegmentationTask(*parts, list(config["data"]["classes"]), config["seed"], config["compile"])


def check_parts(config: Mapping[str, Any]) -> None:
    """Raises the ConfigError that building the network or the loss would raise, without building either for real.

    And that of a precision or a compiler that this machine lacks.
    """
    if config["precision"] == "16-mixed" and on_cpu(config["trainer"]["accelerator"]):
        raise ConfigError("precision=16-mixed: this is a CPU, where accepted are auto, 32, bf16-mixed")
    if config["compile"]:
        check_compiler()
    with torch.device("meta"):
        _made("model", config, num_classes=len(config["data"]["classes"]))
    build_loss(config)


def check_compiler() -> None:
    """Raises ConfigError where torch.compile would lack the C++ compiler, or the headers, that it calls."""
    name = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if not shutil.which(name):
        raise ConfigError(f"compile=true needs a C++ compiler ({name}); install one or leave compile=false")
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        raise ConfigError(f"compile=true needs Python's headers ({headers}); install them or leave compile=false")


def build_trainer(
    cfg: "DictConfig | Mapping[str, Any]", callbacks: list[pl.Callback], profiler: Profiler | None = None
) -> pl.Trainer:
    """Lightning's Trainer; what is written while it runs is the callbacks' affair."""
    config = plain(cfg)
    in_terminal = sys.stderr.isatty()
    return _made(
        "trainer",
        config,
        max_epochs=config["epochs"],
        precision=resolved_precision(config["precision"], config["trainer"]["accelerator"]),
        callbacks=[*callbacks, TQDMProgressBar(leave=False)] if in_terminal else callbacks,
        enable_progress_bar=in_terminal,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        profiler=profiler,
        use_distributed_sampler=False,  # ours divides the samples itself, exactly
    )


def _made(part: str, config: Mapping[str, Any], **injected: Any) -> Any:
    check(config)  # also keeps a config from elsewhere to classes of trusted packages
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module="albumentations")  # it only warns of arguments it drops
        try:
            return instantiate(config[part], **injected, _convert_="all")
        except Exception as e:
            raise ConfigError(f"{part}: {e.__cause__ or e}") from e
