"""One cell of the grid: from a checked config to a finished run folder."""

import importlib.metadata
import logging
import os
import platform
import subprocess
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from seglab.build import COMPUTING, build_data, build_task, build_trainer, check_parts, code_hash, identity
from seglab.config import ConfigError
from seglab.data import DataError, SegmentationData
from seglab.recorder import Recorder
from seglab.runs import DONE, FAILED, Run
from seglab.task import NotFinite

log = logging.getLogger("seglab")

EXPECTED = (ConfigError, DataError, NotFinite)

EXPLAINED_WARNINGS = (
    "The '.*_dataloader' does not have many workers",  # pixels come from a memory map: workers gain nothing
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # within pytorch-lightning 2.6.6 on torch 2.14
    "Found .* module\\(s\\) in eval mode at the start of training",  # a frozen encoder is meant to be
    "The number of training batches .* is smaller than the logging interval",  # we log at each epoch's end
)


def prepare(config: Mapping[str, Any]) -> tuple[SegmentationData, str, Run]:
    """The data of a cell, read and checked, its identity, and its folder. Raises ConfigError or DataError."""
    check_parts(config)
    data = build_data(config)
    data.setup()
    key = identity(config, data.content)
    names = config["names"]
    folder = f"{names['model']}-{names['loss']}-e{config['epochs']}-s{config['seed']}-{key[:8]}"
    return data, key, Run(Path(config["output_dir"]) / config["study"] / folder)


def train_cell(config: Mapping[str, Any]) -> dict[str, Any]:
    """Trains one cell and returns what its results.json says; an error ends in `status: failed` and its reason."""
    data, key, run = prepare(config)
    done = run.results()
    if done and done["status"] == DONE:
        log.info("%s is done: val mIoU %.4f", run.folder, done["val"]["miou"])
        return done
    facts = environment()
    run.start(config, facts)
    with _log_into(run.log_file):
        train, val = data.indices
        log.info("%s: %d images train, %d validate", run.folder, len(train), len(val))
        head = {
            "status": DONE, "identity": key, "model": config["names"]["model"], "loss": config["names"]["loss"],
            "epochs": config["epochs"], "seed": config["seed"],
        }  # fmt: skip
        try:
            results = head | _train(config, data, key, run)
        except Exception as e:
            expected = isinstance(e, EXPECTED)  # its message is already the one line that a user needs
            log.log(logging.DEBUG if expected else logging.ERROR, "%s", traceback.format_exc().rstrip())
            results = head | {"status": FAILED, "reason": f"{type(e).__name__}: {e}".splitlines()[0]}
        results["environment"] = facts
        run.write_results(results)
        return results


def _train(config: Mapping[str, Any], data: SegmentationData, key: str, run: Run) -> dict[str, Any]:
    started = time.perf_counter()
    task = build_task(config)
    recorder = Recorder(run, data, key, config["pictures"], config["picture_every"])
    trainer = build_trainer(config, [recorder])
    with warnings.catch_warnings():
        for message in EXPLAINED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        trainer.fit(task, datamodule=data)
    recorder.finish(task, config)
    scores = recorder.scores
    return {
        "val": {
            "miou": scores["val/miou"],
            "iou": {name: scores[f"val/iou/{name}"] for name in data.classes},
            "dice": scores["val/dice"],
            "accuracy": scores["val/accuracy"],
        },
        "majority_miou": scores["val/majority_miou"],
        "best": recorder.best,
        "train_seconds": recorder.train_seconds,
        "total_seconds": time.perf_counter() - started,
        "images_per_second": config["epochs"] * len(data.indices[0]) / recorder.train_seconds,
        "parameters": sum(p.numel() for p in task.net.parameters()),
    }


@contextmanager
def _log_into(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    before = log.level
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.setLevel(before)
        logging.getLogger().removeHandler(handler)
        handler.close()


def environment() -> dict[str, Any]:
    """What a number may depend on besides the config: versions, code, device, threads."""
    versions = {name: importlib.metadata.version(name) for name in (*COMPUTING, "hydra-core", "tensorboard")}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "git_commit": _git_commit(),
        "code": code_hash(),
        "device": gpu or platform.processor() or platform.machine(),
        "cpu_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
    }


def _git_commit() -> str | None:
    """Commit of the working copy, with `-dirty` where it was changed; None outside of one."""
    here = Path(__file__).parent
    said = subprocess.run(
        ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return said.stdout.strip() or None
