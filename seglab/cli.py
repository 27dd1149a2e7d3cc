"""The `seglab` command: a thin door to what a run folder can give."""

import argparse
import sys
from pathlib import Path

DESCRIPTION = "Tables and maps from finished runs; training is train.py's."
GRID_EXAMPLE = "example: seglab grid outputs/default"
PREDICT_EXAMPLE = "example: seglab predict outputs/default/<run> scene.tif --out maps"


def main() -> None:
    """Parses, calls one function, and turns an expected error into one line."""
    parser = argparse.ArgumentParser("seglab", description=DESCRIPTION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    grid = commands.add_parser("grid", help="a study's grid, also as grid.csv and grid.md", epilog=GRID_EXAMPLE)
    grid.add_argument("study", type=Path, help="a folder of run folders")
    grid.set_defaults(call=_grid)
    predict = commands.add_parser("predict", help="maps of images of any size", epilog=PREDICT_EXAMPLE)
    predict.add_argument("run", type=Path, help="a run folder")
    predict.add_argument("images", type=Path, nargs="+", help="8-bit pictures")
    predict.add_argument("--out", type=Path, default=Path("maps"), help="folder for the maps: class ids and coloured")
    predict.add_argument("--checkpoint", default="last", choices=["last", "best"], help="the last epoch or the best")
    predict.set_defaults(call=_predict)
    arguments = parser.parse_args()
    try:
        arguments.call(arguments)
    except (ValueError, OSError) as e:
        sys.exit(f"seglab: {e}")


def _grid(a: argparse.Namespace) -> None:
    from seglab.report import write_grid

    print(write_grid(a.study), end="")


def _predict(a: argparse.Namespace) -> None:
    from seglab.predict import write_maps
    from seglab.runs import Run

    for path in write_maps(Run(a.run), a.images, a.out, a.checkpoint):
        print(path)


if __name__ == "__main__":
    main()
