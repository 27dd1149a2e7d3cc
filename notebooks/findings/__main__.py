"""`make findings`: packs the studies that were trained here, and runs the notebook on what is packed."""

from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

from findings import studies

NOTEBOOK = Path(__file__).parents[1] / "findings.ipynb"


def main() -> None:
    """Packs, runs, and writes the notebook with its outputs."""
    for name in studies.names():
        if (studies.OUTPUTS / name).is_dir():
            print(*studies.keep(name), sep="\n")
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
