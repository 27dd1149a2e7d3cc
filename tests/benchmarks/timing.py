"""How the benchmarks time and what a row of their table says."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


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
        peer, ratio = "", ""
        if self.peer is not None:
            better = self.ours / self.peer if self.more_is_better else self.peer / self.ours
            peer, ratio = f"{self.peer:.4g}", f"{better:.2f}x"
        return f"| {self.what} | {peer} | {self.ours:.4g} | {self.unit} | {ratio} |"


def milliseconds(peer: Callable[[], object], ours: Callable[[], object], repeats: int = 7) -> tuple[float, float]:
    """Medians of both, run in turn after two warm-up calls each: what disturbs one disturbs the other."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(repeats + 2):
        for call, kept in zip((peer, ours), times, strict=True):
            start = time.perf_counter()
            call()
            if i >= 2:
                kept.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[0]), statistics.median(times[1])
