"""The facts that a number may depend on besides the config: versions, device, threads."""

import importlib.metadata
import logging
import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from seglab.machine.precision import device_kind

COMPUTING = ("torch", "torchvision", "segmentation-models-pytorch", "pytorch-lightning", "albumentations", "numpy")
"""Libraries whose version decides the weights."""

log = logging.getLogger(__name__)

PACKAGE = Path(__file__).parent.parent


@cache
def computing_versions() -> dict[str, str]:
    """Versions of the libraries that compute."""
    return {name: importlib.metadata.version(name) for name in COMPUTING}


def computing_device(accelerator: str, threads: int | None, gpu: int = 0) -> str:
    """The device that `accelerator` computes on; on a CPU the number of threads changes the last bits of a sum."""
    import torch  # here and below, so that tables of a study do not wait for it

    kind = device_kind(accelerator)
    if kind == "cpu":
        return f"cpu, {threads or torch.get_num_threads()} threads"
    return torch.cuda.get_device_name(gpu) if kind == "cuda" else kind


def gpus_are_alike() -> bool:
    """True if all GPUs that torch sees are of one model, or there are none: then any of them stands for all."""
    import torch

    return len({torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}) < 2


@cache
def warn_of_unseen_gpus(accelerator: str) -> None:
    """Warns, once, of GPUs that torch does not see although nvidia-smi does: `auto` would silently mean the CPU."""
    import torch

    if accelerator not in ("auto", "gpu", "cuda") or torch.cuda.is_available():
        return
    listed = _listed_gpus()
    if not listed:
        return
    facts = [f"torch {torch.__version__} is built without CUDA"]
    if torch.version.cuda:
        facts = [f"torch {torch.__version__} is built for CUDA {torch.version.cuda}, which may need a newer driver"]
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        facts.append(f"CUDA_VISIBLE_DEVICES is {os.environ['CUDA_VISIBLE_DEVICES']!r}")
    log.warning("torch sees no GPU although nvidia-smi does: %s; %s", listed[0], "; ".join(facts))


def _listed_gpus() -> list[str]:
    """Models of the GPUs that nvidia-smi lists; none where it is missing or has no answer."""
    try:
        said = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.partition(": ")[2].partition(" (UUID")[0] for line in said.splitlines() if line.startswith("GPU ")]


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
