"""A peer's parts and ours side by side, and a table for this machine: python -m tests.benchmarks, or make bench.

The table is printed row by row and kept in outputs/bench/<machine>.md. Run it on a quiet machine: any second busy
process makes torch's threads several times slower. `--rows` chooses; `grid` trains and takes most of the time.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from seglab.data.synthetic import ensure_scenes
from tests.benchmarks import (
    draws,
    epoch_end,
    evaluation,
    gpu,
    grid,
    growth,
    machine,
    memory,
    parts,
    start,
    step,
    study,
)
from tests.benchmarks.timing import Row, load

ROWS = {
    "grid": grid.rows,
    "step": step.rows,
    "lovasz": parts.lovasz,
    "metrics": parts.metrics,
    "loading": parts.loading,
    "draws": draws.rows,
    "dilated": parts.dilated,
    "start": start.rows,
    "memory": memory.rows,
    "evaluation": evaluation.rows,
    "growth": growth.rows,
    "epoch_end": epoch_end.rows,
    "study": study.rows,
    "gpu": gpu.rows,
}

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("SEGLAB_SHARED", ROOT.parent / "shared"))
"""Where the peer and the real images are, unless the options say otherwise."""


def main() -> None:
    """Prints each row of the table as soon as it is measured, and keeps it."""
    arguments = parsed()
    script = arguments.peer or next((p for p in [SHARED / "bench" / "peer.py"] if p.is_file()), None)
    tiles, of = (arguments.tiles, str(arguments.tiles)) if arguments.tiles else found_tiles(arguments.out)
    with_gpu = torch.cuda.is_available()
    chosen = arguments.rows or [name for name in ROWS if name != "gpu" or with_gpu]
    arguments.out.mkdir(parents=True, exist_ok=True)
    suffix = "".join(f"-{name}" for name in arguments.rows or ())
    path = arguments.out / f"{machine.name()}{suffix}.md"
    with path.open("w") as kept:
        for line in (*opening(script, of), *(str(row) for row in measured(chosen, script, tiles, arguments.seeds))):
            print(line, flush=True)
            print(line, file=kept, flush=True)
    print(f"\n{path} holds this table")


def parsed() -> argparse.Namespace:
    """The options; ends with one line where a path is not there, or a GPU."""
    parser = argparse.ArgumentParser("tests.benchmarks", description=__doc__)
    parser.add_argument("--peer", type=Path, help="the peer's script (default: bench/peer.py in SEGLAB_SHARED)")
    parser.add_argument("--tiles", type=Path, help="folder of data/*.png and label/*.png of one size, classes 0 to 3")
    parser.add_argument("--rows", nargs="+", choices=ROWS, help="what to measure (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each grid")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "bench", help="where the table is kept")
    arguments = parser.parse_args()
    tiles = [arguments.tiles / "data", arguments.tiles / "label"] if arguments.tiles else []
    for path in [*([arguments.peer] if arguments.peer else []), *tiles]:
        if not path.exists():
            sys.exit(f"{path}: not there")
    if "gpu" in (arguments.rows or ()) and not torch.cuda.is_available():
        sys.exit("--rows gpu: torch sees no GPU here")
    return arguments


def found_tiles(out: Path) -> tuple[Path, str]:
    """Tiles cut once from the real images of SHARED, else drawn once, and the words for them."""
    cut = SHARED / "data" / "dubai" / "make_tiles.py"
    if not cut.is_file():
        return ensure_scenes(str(out), num_scenes=20, tiles_per_scene=4, size=256), "drawn scenes of 256 x 256"
    tiles = out / "tiles"
    if not (tiles / "scenes.csv").exists():  # written last
        subprocess.run([sys.executable, str(cut), str(tiles)], check=True, stdout=sys.stderr)
    return tiles, "Dubai, 1024 x 1024"


def opening(script: Path | None, tiles: str) -> Iterator[str]:
    """The lines before the rows: the machine, the peer, the images."""
    yield f"# Benchmarks on {machine.cpu()}\n"
    yield from (f"- {name}: {value}" for name, value in machine.facts().items())
    yield f"- images: {tiles}"
    none = f"not found at {SHARED / 'bench' / 'peer.py'}, so the rows are of ours alone; --peer names another place"
    yield f"- peer: {script.name if script else none}\n"
    yield Row.header()


def measured(names: list[str], script: Path | None, tiles: Path, seeds: int) -> Iterator[Row]:
    """Every row; where one fails, its place in the table says so, and the others go on."""
    for name in names:
        try:
            yield from ROWS[name](load(script), script, tiles, seeds)
        except (Exception, SystemExit) as e:
            print(f"{name}: {e}", file=sys.stderr, flush=True)
            yield Row.failed(name, e)


if __name__ == "__main__":
    main()
