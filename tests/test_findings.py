"""The notebook of the study shows what its packed studies hold, and is made again by one command."""

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from findings import __main__ as rebuilding
from findings import studies, tables
from findings.traps import Resampled
from tests.conftest import ROOT
from tests.study import add_cell, draw_labels, spoil

NOTEBOOK = ROOT / "notebooks" / "findings.ipynb"


@pytest.fixture(scope="module")
def cells() -> list[Any]:
    return nbformat.read(NOTEBOOK, as_version=4).cells


def shown(cell: Any, kind: str) -> list[str]:
    return [out.data[kind] for out in cell.get("outputs", []) if kind in out.get("data", {})]


def last_value(source: str, names: dict[str, Any]) -> Any:
    """Runs a cell and gives the value of its last expression; None, without drawing, where that is a picture."""
    tree = ast.parse(source.replace("%matplotlib inline", ""))
    last = tree.body.pop()
    exec(compile(tree, "cell", "exec"), names)
    drawn = re.match(r"(figures|pictures|Image)\b", ast.unparse(last))
    return None if drawn else eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # type: ignore[attr-defined]


def test_each_table_is_what_the_packed_studies_give(cells: list[Any]) -> None:
    names: dict[str, Any] = {}
    compared = 0
    for cell in cells:
        # what traps compute is held by tests/test_traps.py
        if cell.cell_type == "code" and ("import" in cell.source or "traps." not in cell.source):
            value = last_value(cell.source, names)
            if value is not None:
                assert [value.data] == shown(cell, "text/markdown")
                compared += 1
    assert compared >= 10


def test_every_experiment_is_in_it(cells: list[Any]) -> None:
    experiments = {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")} - {"demo"}
    assert experiments == set(studies.names())
    text = "".join(cell.source for cell in cells)
    assert [name for name in experiments if f'"{name}"' not in text or f"experiment={name}" not in text] == []


def test_every_code_cell_was_run_and_pictures_are_small(cells: list[Any]) -> None:
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(cell.outputs for cell in code)
    assert not [out for cell in code for out in cell.outputs if out.output_type in ("error", "stream")]
    assert NOTEBOOK.stat().st_size < 2_500_000
    assert sum(path.stat().st_size for path in studies.PACKED.rglob("*.*")) < 12_000_000


def test_what_was_trained_here_is_packed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = draw_labels(4)
    for seed in (0, 1):
        run = add_cell(tmp_path / "outputs" / "mine", "dice", 2, labels, spoil(labels, 0.1), seed)
        run.write_results(run.results() | {"identity": f"i{seed}", "epochs": 2, "train_seconds": 3600.0})
    (tmp_path / "packed" / "mine").mkdir(parents=True)
    notebook = tmp_path / "findings.ipynb"
    cell = nbformat.v4.new_code_cell("from findings import studies\nprint(1)")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), notebook)
    monkeypatch.setattr(studies, "PACKED", tmp_path / "packed")
    monkeypatch.setattr(studies, "OUTPUTS", tmp_path / "outputs")
    monkeypatch.setattr(rebuilding, "NOTEBOOK", notebook)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'notebooks'}:{ROOT}")
    rebuilding.main()
    assert nbformat.read(notebook, as_version=4).cells[0].outputs[0].text == "1\n"
    row = studies.overview().splitlines()[-1]
    assert [field.strip() for field in row.split("|")[1:-1]] == ["together", "2", "2", "4", "4", "2.0"]
    studies.folder.cache_clear()


def test_records_are_tables() -> None:
    row = Resampled(0.5, 0.25)
    assert tables.of({"a": row}).splitlines()[-1].split() == ["|", "a", "|", "0.500", "|", "0.250", "|"]
    assert tables.of([row]).splitlines()[0].split() == ["|", "changed", "|", "invented", "|"]
