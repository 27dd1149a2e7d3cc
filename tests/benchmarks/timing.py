"""Parts that the benchmarks share: the peer, a batch, timing, and the rows of their table."""

import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor


@dataclass
class Row:
    """One line: the peer's number, ours, and which way is better."""

    what: str
    peer: float | None
    ours: float
    unit: str
    more_is_better: bool = False

    @staticmethod
    def header() -> str:
        return "| what | peer | ours | unit | ours is better by |\n| --- | ---: | ---: | --- | ---: |"

    def __str__(self) -> str:
        peer = ""
        ratio = ""
        if self.peer is not None:
            better = self.ours / self.peer if self.more_is_better else self.peer / self.ours
            peer = f"{self.peer:.4g}"
            ratio = f"{better:.2f}x"
        return f"| {self.what} | {peer} | {self.ours:.4g} | {self.unit} | {ratio} |"


def milliseconds(peer: Callable[[], object], ours: Callable[[], object], repeats: int = 7) -> tuple[float, float]:
    """Medians of both, run in turn after two warm-up calls each, so that a disturbance affects both."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(repeats + 2):
        for call, kept in zip((peer, ours), times, strict=True):
            start = time.perf_counter()
            call()
            if i >= 2:
                kept.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[0]), statistics.median(times[1])


def load(script: Path) -> ModuleType:
    """The peer's script as a module: its network, data set and metric are used as it uses them."""
    spec = importlib.util.spec_from_file_location("peer", script)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def batch(size: int, count: int) -> tuple[Tensor, Tensor]:
    """Images `float [B,3,H,W]` in 0..255 and an index map `uint8 [B,H,W]` of blocks."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.randint(0, 4, (count, size // 16, size // 16), generator=generator, dtype=torch.uint8)
    mask = mask.repeat_interleave(16, 1).repeat_interleave(16, 2)
    return 255 * torch.rand(count, 3, size, size, generator=generator), mask
