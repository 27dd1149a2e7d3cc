"""What one job of train.py does: it trains a row of cells, or measures how fast that would be."""

from collections.abc import Mapping
from typing import Any

from seglab.benchmark.benchmark import benchmark
from seglab.config.schema import ConfigError
from seglab.machine.processes import together
from seglab.training.row import train_row


def job(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A result for each cell, or the one of a benchmark; each has a `status`. Raises ConfigError or DataError."""
    if not config["benchmark"]:
        return train_row(config)
    if config["profile"]:
        raise ConfigError("profile=true with benchmark=true: accepted is one of them")
    if together(config):
        raise ConfigError(
            "benchmark=true with trainer.strategy=ddp: it measures one device; accepted are other trainers"
        )
    return [benchmark(config)]
