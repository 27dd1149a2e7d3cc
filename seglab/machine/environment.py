"""Environment that a score may depend on besides the config: versions, code, device, threads."""

import ctypes
import gc
import hashlib
import importlib.metadata
import os
import platform
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

COMPUTING = ("torch", "torchvision", "segmentation-models-pytorch", "pytorch-lightning", "albumentations", "numpy")
"""Libraries whose version decides the weights."""

HERE = Path(__file__).parent.parent
M_TRIM_THRESHOLD = -1  # <malloc.h>
M_MMAP_MAX = -4


def computing_versions() -> dict[str, str]:
    """Versions of the libraries that compute."""
    return {name: importlib.metadata.version(name) for name in COMPUTING}


def code_hash() -> str:
    """Hash of the modules that decide weights; a change to a report or a picture keeps every run's identity."""
    files = sorted(p for d in ("losses", "models", "data") for p in (HERE / d).rglob("*.py"))
    files += [HERE / f"{name}.py" for name in ("labels", "task/schedules", "task/task", "config/parts")]
    return hashlib.sha256(b"\0".join(p.read_bytes() for p in files)).hexdigest()


def computing_device(accelerator: str, threads: int | None) -> str:
    """The device that `accelerator` will compute on; on a CPU the number of threads changes the last bits of a sum."""
    if torch.cuda.is_available() and accelerator != "cpu":
        return torch.cuda.get_device_name()
    return f"cpu, {threads or torch.get_num_threads()} threads"


def environment(accelerator: str, threads: int) -> dict[str, Any]:
    """Record of a run: versions, commit, code, and the machine that it ran on."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": computing_versions() | {"hydra-core": importlib.metadata.version("hydra-core")},
        "git_commit": git_commit(),
        "code": code_hash(),
        "device": computing_device(accelerator, threads),
        "processor": platform.processor() or platform.machine(),
        "cpu_cores": os.cpu_count(),
    }


def keep_freed_memory() -> None:
    """Lets glibc reuse memory instead of handing it back at each `free`, for the rest of the process.

    Otherwise every tensor above 32 MiB is mapped anew and zeroed page by page: 90,000 page faults, 0.14 s of a 1 s step
    of DeepLabV3+ (8 x 224 x 224, two cores). Without glibc nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def isolated(threads: int) -> Iterator[None]:
    """Context with `threads` CPU threads that restores the process after it: flags, threads, random states, memory."""
    backends = torch.backends.cudnn
    flags = {name: getattr(backends, name) for name in ("benchmark", "deterministic", "allow_tf32")}
    strict = torch.are_deterministic_algorithms_enabled()
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    precision = torch.get_float32_matmul_precision()
    before = torch.get_num_threads()
    numbers = np.random.get_state()
    draws = random.getstate()
    torch.set_num_threads(threads)
    keep_freed_memory()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        for name, flag in flags.items():
            setattr(backends, name, flag)
        torch.use_deterministic_algorithms(strict, warn_only=warn)
        torch.set_float32_matmul_precision(precision)
        torch.set_num_threads(before)
        np.random.set_state(numbers)
        random.setstate(draws)
        gc.collect()  # Lightning's loops and their trainer refer to each other


def git_commit() -> str | None:
    """Commit of the working copy, with `-dirty` if it has changes; None outside of a repository."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return said.stdout.strip() or None
