"""A peer's parts and ours side by side: python -m tests.benchmarks --peer peer.py --tiles DIR.

DIR holds data/*.png and label/*.png (class index 0..3), as ../shared/data/dubai/make_tiles.py cuts them. Run it on a
quiet machine: any second busy process makes torch's threads several times slower. `--rows` chooses among the rows;
`grid` trains and takes most of the time.
"""

import argparse
import sys
from pathlib import Path

from tests.benchmarks import epoch_end, evaluation, grid, growth, memory, parts, start, step, study
from tests.benchmarks.timing import Row, load

ROWS = {
    "grid": grid.rows,
    "step": step.rows,
    "lovasz": parts.lovasz,
    "metrics": parts.metrics,
    "loading": parts.loading,
    "dilated": parts.dilated,
    "start": start.rows,
    "memory": memory.rows,
    "evaluation": evaluation.rows,
    "growth": growth.rows,
    "epoch_end": epoch_end.rows,
    "study": study.rows,
}


def main() -> None:
    """Prints each row of the table as soon as it is measured."""
    parser = argparse.ArgumentParser("tests.benchmarks", description=__doc__)
    parser.add_argument("--peer", type=Path, required=True, help="the peer's script, ../shared/bench/peer.py")
    parser.add_argument("--tiles", type=Path, required=True, help="folder of data/*.png and label/*.png of one size")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, help="what to measure")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each grid")
    arguments = parser.parse_args()
    for path in (arguments.peer, arguments.tiles / "data", arguments.tiles / "label"):
        if not path.exists():
            sys.exit(f"{path}: not there")
    print(Row.header(), flush=True)
    for name in arguments.rows:
        for row in ROWS[name](load(arguments.peer), arguments.peer, arguments.tiles, arguments.seeds):
            print(row, flush=True)


if __name__ == "__main__":
    main()
