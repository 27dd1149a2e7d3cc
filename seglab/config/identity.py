"""What a cell is, as a hash."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seglab.config.parts import BOOKKEEPING
from seglab.machine.environment import code_hash, computing_device, computing_versions
from seglab.machine.precision import resolved_precision


def identity(config: Mapping[str, Any], data_content: str) -> str:
    """Hash of all that determines a run's weights after any number of epochs.

    That is the config without bookkeeping, the content of the data and of encoder weights, our code, the libraries
    that compute, and the device.
    """
    facts = {k: v for k, v in config.items() if k not in BOOKKEEPING}
    facts["data"] = {k: v for k, v in config["data"].items() if k not in ("root", "cache_dir", "num_workers")}
    facts["trainer"] = {k: v for k, v in config["trainer"].items() if k != "accelerator"}  # the device itself is below
    facts["precision"] = resolved_precision(config["precision"], config["trainer"]["accelerator"])
    weights = config["model"].get("encoder_weights")
    if weights and Path(weights).is_file():
        facts["model"] = config["model"] | {"encoder_weights": hashlib.sha256(Path(weights).read_bytes()).hexdigest()}
    facts["device"] = computing_device(config["trainer"]["accelerator"], config["threads"])
    facts |= {"content": data_content, "code": code_hash(), "libraries": computing_versions()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
