"""The memory that a map needs, known beforehand: a system without any left ends a process without a word."""

import resource
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from seglab.maps.scoring import predict
from seglab.models.network import Network

SIDES = (128, 256)
"""Sides of the images that are tried: from one to the other grows what grows with the image."""

SCRATCH = 1.25
"""Memory of a convolution besides its input and output, as a factor: measured 0.9 to 1.2 on the three models."""

LIMITS = (("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
          ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"))  # fmt: skip
"""Where Linux tells a container's limit, and what is used of it."""


class Peak(TorchDispatchMode):
    """Mode that knows the most bytes of tensors, made within it, that were there at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._now = 0
        self._seen = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage() not in self._seen:
                storage = tensor.untyped_storage()
                self._seen[storage] = None
                self._add(storage.nbytes())
                weakref.finalize(storage, self._add, -storage.nbytes())
        return out

    def _add(self, change: int) -> None:
        self._now += change
        self.bytes = max(self.bytes, self._now)


def bytes_per_pixel(net: Network) -> float:
    """The most memory that a map takes at once, for each pixel of its image: a constant of the network."""
    peaks = []
    for side in SIDES:
        with Peak() as peak:
            predict(net, np.zeros((side, side, net.bands), np.uint8))
        peaks.append(peak.bytes)
    return SCRATCH * (peaks[1] - peaks[0]) / (SIDES[1] ** 2 - SIDES[0] ** 2)


def free_memory() -> int | None:
    """Bytes that this process may still take; None where the system does not tell."""
    found = []
    known = _numbers(Path("/proc/meminfo"))
    if "MemAvailable" in known:
        found.append(known["MemAvailable"])
    for limit, used in LIMITS:
        try:
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # none, or "max"
            continue
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    taken = _numbers(Path("/proc/self/status")).get("VmSize")
    if most != resource.RLIM_INFINITY and taken is not None:
        found.append(most - taken)
    return min(found, default=None)


def _numbers(path: Path) -> dict[str, int]:
    """The lines `name: number kB` of a file of Linux, in bytes."""
    if not path.exists():
        return {}
    words = (line.split() for line in path.read_text().splitlines())
    return {w[0].rstrip(":"): 1024 * int(w[1]) for w in words if len(w) == 3 and w[2] == "kB"}
