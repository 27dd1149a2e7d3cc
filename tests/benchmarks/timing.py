"""Parts that the benchmarks share: the peer, a batch, timing, and the rows of their table."""

import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Self

import torch
from torch import Tensor


@dataclass
class Row:
    """One line: the peer's number, ours (or a word), and which way is better."""

    what: str
    peer: float | None
    ours: float | str
    unit: str = ""
    more_is_better: bool = False

    @classmethod
    def failed(cls, what: str, error: BaseException) -> Self:
        """The row of a measurement that ended with an error."""
        lines = str(error).strip().splitlines() or [""]
        return cls(what, None, f"failed: {type(error).__name__}: {lines[-1][:200]}".replace("|", "/"))

    @staticmethod
    def header() -> str:
        return "| what | peer | ours | unit | ours is better by |\n| --- | ---: | ---: | --- | ---: |"

    def __str__(self) -> str:
        peer = ""
        ratio = ""
        if isinstance(self.ours, str):
            return f"| {self.what} | | {self.ours} | {self.unit} | |"
        if self.peer is not None:
            better = self.ours / self.peer if self.more_is_better else self.peer / self.ours
            peer = f"{self.peer:.4g}"
            ratio = f"{better:.2f}x"
        return f"| {self.what} | {peer} | {self.ours:.4g} | {self.unit} | {ratio} |"


def milliseconds(
    peer: Callable[[], object] | None, ours: Callable[[], object], repeats: int = 7
) -> tuple[float | None, float]:
    """Medians of both, run in turn after two warm-up calls each, so that a disturbance affects both."""
    calls = [ours] if peer is None else [peer, ours]
    times: list[list[float]] = [[] for _ in calls]
    for i in range(repeats + 2):
        for call, kept in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            if i >= 2:
                kept.append(1e3 * (time.perf_counter() - start))
    return None if peer is None else statistics.median(times[0]), statistics.median(times[-1])


def load(script: Path | None) -> ModuleType | None:
    """The peer's script as a module: its network, data set and metric are used as it uses them. None without one."""
    if script is None:
        return None
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
