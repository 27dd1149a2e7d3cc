"""From the config to objects: network, loss, data, task, trainer."""

import inspect
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
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.profilers import Profiler

from seglab.config.compose import config_of
from seglab.config.constructors import target
from seglab.config.schema import Config, ConfigError, plain
from seglab.data import SegmentationData
from seglab.machine.precision import device_kind, resolved_precision
from seglab.maps.scoring import Scoring
from seglab.models.network import Network
from seglab.task.schedules import Constant
from seglab.task.task import SegmentationTask

if TYPE_CHECKING:
    from omegaconf import DictConfig

    Configured = DictConfig | Mapping[str, Any] | Config

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # below that it advertises


def build_model(cfg: "Configured") -> Network:
    """The network that `cfg.model` names, its weights a function of `cfg.seed`."""
    config = config_of(cfg)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        net = _made("model", config, **_of_data(config))
    if config.bands is not None:
        net.take_rasters(len(config.bands))
    full = resolved_precision(config.precision, config.accelerator) == "32"
    on_a_cpu = device_kind(config.accelerator) == "cpu"
    return net.lay_out(net.float32_layout if full and on_a_cpu else torch.channels_last)


def build_loss(cfg: "Configured") -> torch.nn.Module:
    """The loss that `cfg.loss` names."""
    return _made("loss", config_of(cfg))


def build_schedule(cfg: "Configured") -> Constant:
    """The learning rate schedule that `cfg.schedule` names."""
    return _made("schedule", config_of(cfg))


def build_data(cfg: "Configured") -> SegmentationData:
    """The data that `cfg.data` names; nothing is read yet."""
    config = config_of(cfg)
    return _made("data", config, seed=config.seed, score_train=config.score_train)


def build_task(cfg: "Configured") -> SegmentationTask:
    """Network, loss, optimiser and schedule in one LightningModule, and the way in which its maps are scored."""
    config = config_of(cfg)
    net = build_model(config)
    loss = build_loss(config)
    optimizer = _made("optimizer", config)
    schedule = build_schedule(config)
    if config.compile:
        torch.compiler.reset()  # else code of the trainings before counts against the limit to what may be compiled
    scoring = Scoring(list(config.classes))
    return SegmentationTask(net, loss, optimizer, schedule, scoring, config.seed, config.compile)


def check_machine(config: Config) -> None:
    """Raises ConfigError for a precision, a GPU or a compiler that this machine lacks."""
    on_a_cpu = device_kind(config.accelerator) == "cpu"
    if config.accelerator in ("gpu", "cuda") and on_a_cpu:
        raise ConfigError(
            f"trainer.accelerator={config.accelerator}: torch sees no GPU here; accepted are auto and cpu"
        )
    if config.precision == "16-mixed" and on_a_cpu:
        raise ConfigError("precision=16-mixed: this is a CPU, where accepted are auto, 32, bf16-mixed")
    if config.compile:
        check_compiler()


def check_parts(config: Config) -> None:
    """Raises the ConfigError that building network, loss or optimiser would raise, without building one for real."""
    _check_optimizer(config)
    with torch.device("meta"):
        _made("model", config, **_of_data(config))
    build_loss(config)


def _of_data(config: Config) -> dict[str, int]:
    """The arguments of a model that its data decide. Raises ConfigError for bands that it can't take."""
    found = {"num_classes": len(config.classes)}
    if config.bands is None:
        return found
    made = target(config.model, "model")
    if "in_channels" in inspect.signature(made).parameters:
        return found | {"in_channels": len(config.bands)}
    if len(config.bands) != 3:
        raise ConfigError(
            f"data.bands={config.bands}: {made.__name__} takes 3 bands, since its constructor has no in_channels"
        )
    return found


def _check_optimizer(config: Config) -> None:
    make = _made("optimizer", config)
    try:
        make([torch.nn.Parameter(torch.zeros(1))])
    except (ValueError, TypeError, RuntimeError) as e:
        raise ConfigError(f"optimizer: {str(e).splitlines()[0]}") from e


def check_compiler() -> None:
    """Raises ConfigError where torch.compile would lack the C++ compiler, or the headers, that it calls."""
    name = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if not shutil.which(name):
        raise ConfigError(f"compile=true needs a C++ compiler ({name}); install one or leave compile=false")
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        raise ConfigError(f"compile=true needs Python's headers ({headers}); install them or leave compile=false")


def build_trainer(
    cfg: "Configured",
    callbacks: list[pl.Callback],
    profiler: Profiler | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> pl.Trainer:
    """Lightning's Trainer, with `arguments` in the place of the config's; the callbacks write what is kept."""
    config = config_of(cfg)
    in_terminal = sys.stderr.isatty()
    return _made(
        "trainer",
        config if arguments is None else config.but(trainer=arguments),
        max_epochs=config.epochs,
        precision=resolved_precision(config.precision, config.accelerator),
        callbacks=[*callbacks, TQDMProgressBar(leave=False)] if in_terminal else callbacks,
        enable_progress_bar=in_terminal,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        profiler=profiler,
        use_distributed_sampler=False,  # ours divides the samples itself, exactly
    )


def _made(part: str, config: Config, **injected: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module="albumentations")  # it only warns of arguments it drops
        try:
            return instantiate(plain(getattr(config, part)), **injected, _convert_="all")
        except Exception as e:
            raise ConfigError(f"{part}: {e.__cause__ or e}") from e
