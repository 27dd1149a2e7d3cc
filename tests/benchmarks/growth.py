"""Growth of the cost: of an epoch with its images, of loading with the data set, of a grid with its rows."""

import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from seglab.config.parts import build_data
from tests.benchmarks.config import composed
from tests.benchmarks.grid import TRAIN
from tests.benchmarks.step import ours
from tests.benchmarks.timing import Row, batch


def rows(peer: ModuleType | None, script: Path | None, tiles: Path, seeds: int) -> Iterator[Row]:
    """Ours alone, at several sizes each."""
    with tempfile.TemporaryDirectory() as folder:
        for copies in (1, 4, 16):
            root = Path(folder) / f"images{copies}"
            count = copied(tiles, root, copies)
            data = build_data(composed("data=folder", f"data.root={root}", "data.size=64", f"data.cache_dir={folder}"))
            data.setup()
            loader = data.train_dataloader()
            seconds = statistics.median(_seconds(lambda loader=loader: list(loader)) for _ in range(3))
            yield Row(f"loading of an image of {count}, 64", None, 1e3 * seconds / len(data.indices[0]), "ms")
        yield from _epochs(script)
        common = ["-m", "study=g", "data.size=64", f"data.cache_dir={folder}", "data=folder"]
        common.append(f"data.root={folder}/images1")
        for grid in ("loss=dice epochs=8", "loss=dice epochs=4,8", "loss=dice epochs=2,4,6,8",
                     "loss=dice,focal epochs=8", "loss=dice,focal,cross_entropy,lovasz epochs=8"):  # fmt: skip
            out = f"output_dir={folder}/{re.sub('[^a-z0-9]+', '-', grid)}"  # `=` and `,` are Hydra's
            command = [sys.executable, str(TRAIN), *common, *grid.split(), out]
            yield Row(f"grid {grid}", None, _seconds(lambda c=command: subprocess.run(c, check=True, stdout=-3)), "s")


def _epochs(script: Path) -> Iterator[Row]:
    step = ours("", "ours", script, *batch(224, 8))
    for steps in (2, 4, 8, 16):

        def epoch(steps: int = steps) -> None:
            for _ in range(steps):
                step()

        epoch()
        yield Row(
            f"an epoch of {8 * steps} images, 224", None, statistics.median(_seconds(epoch) for _ in range(3)), "s"
        )


def copied(tiles: Path, root: Path, copies: int) -> int:
    """Fills a folder with `copies` links to each image. Returns the number of its images."""
    names = sorted(f.name for f in (tiles / "data").glob("*.png"))
    for sub in ("data", "label"):
        (root / sub).mkdir(parents=True)
        for name in names:
            for i in range(copies):
                (root / sub / f"{i}-{name}").symlink_to((tiles / sub / name).resolve())
    return copies * len(names)


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
