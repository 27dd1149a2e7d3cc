"""The arguments of Lightning's Trainer that a config may set, and for each other one why not and what to do instead."""

from collections.abc import Callable
from typing import Any

from seglab.config.schema import Config, ConfigError, did_you_mean

TARGET = "pytorch_lightning.Trainer"

EPOCHS = "a cell of N epochs trains all of them; accepted are epochs=, and Ctrl-C and the same command to resume"
IMAGES = "a score is of all images of its split; accepted is a smaller data set in data.root="
VALIDATION = "every epoch ends with a validation, which its row of metrics.csv holds; accepted is nothing in its place"
FILES = "seglab writes the run folder itself; metrics.csv and the TensorBoard file hold each epoch"

REFUSED = {
    "precision": "accepted is precision= without trainer.",
    "logger": FILES,
    "callbacks": FILES,
    "fast_dev_run": "a cell of N epochs trains all of them; accepted is epochs=1 with a study= of its own",
    "max_epochs": "accepted is epochs=",
    "min_epochs": "accepted is epochs=",
    "max_steps": EPOCHS,
    "min_steps": EPOCHS,
    "max_time": EPOCHS,
    "limit_train_batches": IMAGES,
    "limit_val_batches": IMAGES,
    "limit_test_batches": "no training scores a test split; accepted are data.test_scenes= and seglab evaluate",
    "limit_predict_batches": "training predicts nothing; accepted is seglab predict with fewer images",
    "overfit_batches": IMAGES,
    "val_check_interval": VALIDATION,
    "check_val_every_n_epoch": VALIDATION,
    "num_sanity_val_steps": "data and labels are checked before anything trains; nothing takes its place",
    "log_every_n_steps": FILES,
    "enable_checkpointing": "accepted are checkpoint_every_steps= and checkpoint_every_minutes=, besides every epoch's",
    "enable_progress_bar": "the bar shows in a terminal only; accepted is | cat behind the command",
    "enable_model_summary": "docs/adding.md says how to look at a model; nothing takes its place",
    "inference_mode": "validation, prediction and export compute in one way; nothing takes its place",
    "use_distributed_sampler": "seglab divides the images among the devices itself, so that an epoch takes each once",
    "profiler": "accepted is profile=true",
    "barebones": "accepted is benchmark=true, to measure the speed",
    "plugins": "accepted are precision= and hydra/launcher=",
    "sync_batchnorm": "running statistics are the mean over an epoch's batches, which it would change; "
    "accepted is a larger data.batch_size=",
    "reload_dataloaders_every_n_epochs": "order and augmentation are functions of seed and epoch; accepted is seed=",
    "default_root_dir": "accepted are output_dir= and study=",
    "enable_autolog_hparams": FILES,
    "model_registry": FILES,
}
"""Why an argument of the Trainer would make a cell untrue, or what takes its place."""


def _whole(value: Any) -> bool:
    return type(value) is int and value >= 1


def _number(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 < value < float("inf"))


def _one_of(*choices: Any) -> Callable[[Any], bool]:
    return lambda value: any(value is choice or (type(value) is str and value == choice) for choice in choices)


ACCEPTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "accelerator": (lambda v: isinstance(v, str), "auto, cpu, gpu or another of Lightning's names"),
    "devices": (
        lambda v: _whole(v) or isinstance(v, str | list | tuple) or v == -1,
        "a number, a list of them or auto",
    ),
    "num_nodes": (_whole, "a whole number from 1"),
    "strategy": (_one_of("auto", "ddp", "ddp_find_unused_parameters_true"), "auto or ddp"),
    "accumulate_grad_batches": (_whole, "a whole number from 1"),
    "gradient_clip_val": (_number, "a number above 0, or null for no clipping"),
    "gradient_clip_algorithm": (_one_of("norm", "value", None), "norm or value"),
    "deterministic": (_one_of(True, False, None, "warn"), "true, false or warn"),
    "benchmark": (_one_of(True, False, None), "true or false"),
    "detect_anomaly": (_one_of(True, False), "true or false"),
}
"""Arguments that a config may set: a test of a value, and the words for what is accepted."""


def check_trainer(config: Config) -> None:
    """Raises ConfigError for an argument of the Trainer, or a value, that a cell could not be true with."""
    trainer = config.trainer
    if trainer.get("_target_", TARGET) != TARGET:
        raise ConfigError(f"trainer._target_={trainer['_target_']!r}: accepted is {TARGET}")
    for key, value in trainer.items():
        if key in REFUSED:
            raise ConfigError(f"trainer.{key} can't be set: {REFUSED[key]}")
        if key not in ACCEPTED and key != "_target_":
            raise ConfigError(f"trainer.{key}: no such key; {did_you_mean(key, ACCEPTED)}")
        if key in ACCEPTED and not ACCEPTED[key][0](value):
            raise ConfigError(f"trainer.{key}={value!r}: accepted is {ACCEPTED[key][1]}")
    if trainer.get("gradient_clip_algorithm") and not trainer.get("gradient_clip_val"):
        raise ConfigError("trainer.gradient_clip_algorithm needs trainer.gradient_clip_val=, the largest norm or value")
    if trainer.get("deterministic") and trainer.get("benchmark"):
        raise ConfigError(
            "trainer.benchmark=true chooses kernels by their speed; accepted is that or trainer.deterministic="
        )
    devices = trainer.get("devices", "auto")
    one = devices in (1, "1") or (isinstance(devices, list | tuple) and len(devices) == 1)
    if not config.together and not (one and trainer.get("num_nodes", 1) == 1):
        raise ConfigError(f"trainer.devices={devices}: several devices for one training need trainer=ddp")
