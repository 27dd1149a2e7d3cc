"""A training isolated from the process around it: threads, random states, flags, memory."""

import ctypes
import gc
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

M_TRIM_THRESHOLD = -1  # <malloc.h>
M_MMAP_MAX = -4


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
def isolated(threads: int, gpu: int | None = None) -> Iterator[None]:
    """Context with `threads` CPU threads that restores the process after it: flags, threads, random states, memory.

    Of the random states of GPUs that of `gpu` alone: asking another one takes memory there.
    """
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
        with torch.random.fork_rng(devices=[] if gpu is None else [gpu]):
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
