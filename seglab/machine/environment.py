"""The facts that a number may depend on besides the config: versions, device, threads."""

import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import torch

COMPUTING = ("torch", "torchvision", "segmentation-models-pytorch", "pytorch-lightning", "albumentations", "numpy")
"""Libraries whose version decides the weights."""

PACKAGE = Path(__file__).parent.parent


@cache
def computing_versions() -> dict[str, str]:
    """Versions of the libraries that compute."""
    return {name: importlib.metadata.version(name) for name in COMPUTING}


def computing_device(accelerator: str, threads: int | None) -> str:
    """The device that `accelerator` computes on; on a CPU the number of threads changes the last bits of a sum."""
    if torch.cuda.is_available() and accelerator != "cpu":
        return torch.cuda.get_device_name()
    return f"cpu, {threads or torch.get_num_threads()} threads"


def environment() -> dict[str, Any]:
    """The record of where a run was trained."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": computing_versions() | {"hydra-core": importlib.metadata.version("hydra-core")},
        "git_commit": git_commit(),
        "processor": platform.processor() or platform.machine(),
        "cpu_cores": os.cpu_count(),
    }


def git_commit() -> str | None:
    """Commit of the working copy, with `-dirty` where it was changed; None outside of one."""
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return said.stdout.strip() or None
