"""The whole grid, lovasz x (2, 5, 10) epochs, from the command line to the last score: the peer's script and ours."""

import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from seglab.machine.precision import resolved_precision
from tests.benchmarks.timing import Row

TRAIN = Path(__file__).resolve().parents[2] / "train.py"
EPOCHS = [2, 5, 10]
IMAGES = 70
"""A fifth validates, and the rest fills whole batches of 8, so that both do the same number of steps."""


def rows(peer: ModuleType | None, script: Path | None, tiles: Path, seeds: int) -> Iterator[Row]:
    """Seconds of the grid, plain and tuned (of one epoch where bfloat16 is emulated); the mean mIoU and its spread."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "images"
        names = linked(tiles, root)
        grids = [*([peer_grid] if script else []), our_grid]
        found: dict[Any, list[tuple[float, dict[int, float]]]] = {grid: [] for grid in grids}
        for seed in range(seeds):
            for grid in grids if seed % 2 == 0 else reversed(grids):
                found[grid].append(grid(script, root, names, seed, EPOCHS, Path(folder) / f"{grid.__name__}{seed}"))
                print(f"  {grid.__name__} seed {seed}: {found[grid][-1]}", file=sys.stderr, flush=True)
        yield Row(f"grid lovasz x {EPOCHS}, {seeds} seeds, peer plain", *_each(found, _median), "s")
        for after in EPOCHS:
            means = _each(found, lambda kept, after=after: statistics.mean(m[after] for _, m in kept))
            spread = [f"{statistics.stdev(m[after] for _, m in kept):.3f}" for kept in found.values() if seeds > 1]
            deviation = f" (std {' and '.join(spread)})" if spread else ""
            yield Row(f"mIoU after {after} epochs{deviation}", *means, "", True)
        if script:
            epochs = EPOCHS if resolved_precision("auto") == "bf16-mixed" else [1]  # emulated, a tuned step takes 13 s
            tuned = peer_grid(script, root, names, 0, epochs, Path(folder) / "tuned", "--tuned")
            mine = our_grid(script, root, names, 0, epochs, Path(folder) / "mine")
            yield Row(f"grid lovasz x {epochs}, 1 seed, peer tuned", tuned[0], mine[0], "s")


def _each(found: dict[Any, Any], number: Callable[[Any], float]) -> tuple[float | None, float]:
    """A number of the peer's grids, if there are any, and of ours."""
    theirs = found.get(peer_grid)
    return number(theirs) if theirs else None, number(found[our_grid])


def _median(kept: list[tuple[float, dict[int, float]]]) -> float:
    return statistics.median(seconds for seconds, _ in kept)


def linked(tiles: Path, root: Path) -> list[str]:
    """Links the first images of `tiles`, without scenes, since the peer splits at random. Returns the file names."""
    names = sorted(f.name for f in (tiles / "data").glob("*.png"))[:IMAGES]
    for sub in ("data", "label"):
        (root / sub).mkdir(parents=True)
        for name in names:
            (root / sub / name).symlink_to((tiles / sub / name).resolve())
    return names


def peer_grid(script: Path, root: Path, names: list[str], seed: int, epochs: list[int], out: Path, *options: str):
    """Seconds of the peer's grid, and its validation mIoU after each number of epochs."""
    command = [sys.executable, str(script), "--root", str(root), "--out", str(out), "--loss", "lovasz", "--seed"]
    start = time.perf_counter()
    said = _output([*command, str(seed), "--epochs", *map(str, epochs), *options])
    seconds = time.perf_counter() - start
    cells = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return seconds, {cell["epochs"]: cell["val_miou"] for cell in cells if "epochs" in cell}


def our_grid(script: Path | None, root: Path, names: list[str], seed: int, epochs: list[int], out: Path):
    """The same for our grid: nothing is cached, and the same images validate."""
    validate = np.random.default_rng(0).permutation(len(names))[: len(names) // 5]
    scenes = ",".join(f"'{Path(names[i]).stem}'" for i in validate)
    command = [sys.executable, str(TRAIN), "-m", "loss=lovasz", f"seed={seed}", f"epochs={','.join(map(str, epochs))}"]
    data = ["data=folder", f"data.root={root}", "data.size=224", f"data.val_scenes=[{scenes}]"]
    start = time.perf_counter()
    _output([*command, *data, f"data.cache_dir={out / 'cache'}", f"output_dir={out}", "study=grid"])
    seconds = time.perf_counter() - start
    with (out / "grid" / "grid.csv").open() as f:
        return seconds, {int(row["epochs"]): float(row["miou"]) for row in csv.DictReader(f)}


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout
