"""The end of an epoch, of a cell and of a run: what DeepLabV3+ pays there besides the passes of validation."""

import csv
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from seglab.profile.phases import EPOCH_END, RUN_END
from seglab.profile.tables import WHOLE
from tests.benchmarks.grid import TRAIN, linked
from tests.benchmarks.timing import Row

MB = 1e6


def rows(peer: ModuleType | None, script: Path | None, tiles: Path, seeds: int) -> Iterator[Row]:
    """The median over 12 epochs by seglab's own profile, and the size of the run folders of a grid."""
    with tempfile.TemporaryDirectory() as folder:
        linked(tiles, Path(folder) / "images")
        common = ["model=deeplabv3plus", "data=folder", f"data.root={folder}/images", "data.size=224"]
        common += [f"data.cache_dir={folder}/cache", f"output_dir={folder}", "epochs=3,6,12", "profile=true"]
        subprocess.run([sys.executable, str(TRAIN), "-m", *common], check=True, stdout=subprocess.DEVNULL)
        (profile,) = Path(folder).glob("default/*-e12-*/profile.csv")
        with profile.open() as f:
            found = {(row["part"], row["phase"]): float(row["median_ms"]) for row in csv.DictReader(f)}
        for part in (EPOCH_END, RUN_END):
            yield Row(f"{part}, DeepLabV3+, 224", None, found[part, WHOLE], "ms")
        files = {p.stat().st_ino: p.stat().st_size for p in Path(folder).glob("default/*/checkpoints/*.ckpt")}
        yield Row("checkpoints of 3 cells of one training", None, sum(files.values()) / MB, "MB")
