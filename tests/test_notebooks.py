"""The notebooks run top to bottom on a small study, show what it holds, and are committed nearly without outputs."""

import base64
import io
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image
from traitlets.config import Config

from seglab.run.folder import runs_of
from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def outputs(notebook: Any, kind: str) -> list[str]:
    """Outputs of the cells of a notebook as `kind`, a MIME type."""
    shown = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    return [out.data[kind] for out in shown if kind in out.get("data", {})]


def printed(notebook: Any) -> str:
    shown = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    assert not [out for out in shown if out.output_type == "stream" and out.name == "stderr"]
    return "".join(out.text for out in shown if out.output_type == "stream")


@pytest.fixture
def execute(study: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`execute(name)` runs a notebook on the small study, in its own folder, and returns it with its outputs."""

    def call(name: str) -> Any:
        notebook = read(ROOT / "notebooks" / f"{name}.ipynb")
        (parameters,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
        assert 'STUDY = "../outputs/demo"' in parameters.source
        parameters.source = parameters.source.replace("../outputs/demo", str(study))
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("SEGLAB_CACHE", str(images.parent / "cache"))
        monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))
        private = Config({"KernelManager": {"transport": "ipc", "connection_file": str(tmp_path / "kernel.json")}})
        place = {"metadata": {"path": str(ROOT / "notebooks")}}
        NotebookClient(notebook, timeout=100, kernel_name="python3", resources=place, config=private).execute()
        return notebook

    return call


def test_inspect_predictions(execute, study: Path) -> None:
    notebook = execute("inspect_predictions")
    done = sorted((run for run in runs_of(study) if run.done), key=lambda run: -run.results()["val"]["miou"])
    best, of_another_loss = done[0], next(r for r in done if r.results()["loss"] != done[0].results()["loss"])
    names = [f"{r.results()['loss']}, {r.results()['epochs']} epochs" for r in (best, of_another_loss)]
    assert printed(notebook).split("\n") == [*names, ""]
    assert len(outputs(notebook, "image/png")) == 3


def test_compare_losses(execute) -> None:
    notebook = execute("compare_losses")
    (words,) = outputs(notebook, "text/markdown")
    assert "with 2 validation images nothing can be said" in words
    assert printed(notebook) == "" and len(outputs(notebook, "image/png")) == 3


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p.stem != "findings"], ids=lambda p: p.stem)
def test_outputs_are_stripped_but_for_one_picture(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count is None for cell in code) and not printed(notebook)
    (output,) = (out for cell in code for out in cell.outputs)
    assert set(output.data) == {"image/png", "text/plain"}
    (png,) = outputs(notebook, "image/png")
    assert len(png) < 250_000
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        assert np.asarray(picture.convert("L")).std() > 10  # something is drawn on it


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_they_define_nothing(path: Path) -> None:
    for cell in read(path).cells:
        assert cell.cell_type != "code" or not any(word in cell.source for word in ("def ", "class ", "lambda"))
