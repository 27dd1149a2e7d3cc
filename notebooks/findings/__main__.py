"""`make findings`: packs the studies that were trained here, and runs the notebook on what is packed."""

from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

from findings import pictures, studies
from seglab.report.inspection import Inspection
from seglab.report.study import read_study

MAPPED, IMAGE = "loss_by_epochs", "tile5_2_0"
"""The study whose maps are shown, of a validation image that has all classes."""
NOTEBOOK = Path(__file__).parents[1] / "findings.ipynb"


def keep_maps(study: Path, path: Path) -> Path:
    """Draws the maps of one image by the three losses of the log after each number of epochs, with the first seed."""
    done = max(read_study(study), key=lambda table: len(table.done)).done
    cells = {(e.cell.loss, e.cell.epochs): Inspection(e) for e in done if e.cell.seed == 0}
    epochs = sorted({count for _, count in cells})
    places = [(loss, count) for loss in ("lovasz", "dice", "focal") for count in epochs if (loss, count) in cells]
    return pictures.save(pictures.maps({(loss, f"{n} epochs"): cells[loss, n] for loss, n in places}, IMAGE), path)


def main() -> None:
    """Packs, runs, and writes the notebook with its outputs."""
    for name in studies.names():
        if (studies.OUTPUTS / name).is_dir():
            print(*studies.keep(name), sep="\n")
    if (studies.OUTPUTS / MAPPED).is_dir():
        print(keep_maps(studies.OUTPUTS / MAPPED, Path(__file__).with_name("maps.png")))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    place = {"metadata": {"path": str(NOTEBOOK.parent)}}
    with TemporaryDirectory() as own:  # sockets that nobody else reads
        private = Config({"KernelManager": {"transport": "ipc", "connection_file": f"{own}/kernel.json"}})
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place, config=private).execute()
    for cell in notebook.cells:  # times and the machine's versions: they would change with each run
        cell.metadata.pop("execution", None)
    notebook.metadata.pop("language_info", None)
    nbformat.write(notebook, NOTEBOOK)
    print(NOTEBOOK)


if __name__ == "__main__":
    main()
