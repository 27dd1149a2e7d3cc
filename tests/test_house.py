"""The house: which room may import which, and how large files and functions may be."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

ROOMS = (
    *("labels", "scores", "machine", "pages", "profile", "models", "losses", "data", "maps", "run", "task", "config"),
    *("predict", "training", "audit", "report", "findings", "benchmark", "sweep", "cli"),
)
"""From the ground up: a room imports only itself and rooms before it."""

CONTRACTS = {"models": {"labels"}, "losses": {"labels"}, "data": {"labels", "machine"}}
"""All that the rooms of the first three contracts may import."""

FILES = sorted((ROOT / "seglab").rglob("*.py"))


def room_of(module: str) -> str:
    return module.split(".")[1]


def imported(path: Path) -> Iterator[str]:
    """Rooms that a file's statements import, also within functions, but not under TYPE_CHECKING."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        waiting += ast.iter_child_nodes(node)
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "seglab":
            names = [f"seglab.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        yield from (room_of(name) for name in names if name.startswith("seglab."))


def rooms() -> Iterator[tuple[str, str, Path]]:
    for path in FILES:
        parts = path.relative_to(ROOT / "seglab").with_suffix("").parts
        if parts != ("__init__",):
            yield from ((parts[0], target, path) for target in imported(path))


def test_every_room_is_in_the_order() -> None:
    assert {path.relative_to(ROOT / "seglab").with_suffix("").parts[0] for path in FILES} - {"__init__"} == set(ROOMS)


def test_imports_run_one_way() -> None:
    upward = {f"{path.relative_to(ROOT)} imports {b}" for a, b, path in rooms() if ROOMS.index(b) > ROOMS.index(a)}
    assert not upward


@pytest.mark.parametrize("room", sorted(CONTRACTS))
def test_contracts_import_no_more_than_they_need(room: str) -> None:
    assert {b for a, b, _ in rooms() if a == room} - {room} <= CONTRACTS[room]


def test_rooms_hang_together_by_few_imports() -> None:
    arrows = {(a, b) for a, b, _ in rooms() if a != b and a != "cli"}
    assert len(arrows) < 70, sorted(arrows)


def test_few_files_lie_at_the_root() -> None:
    assert len(list((ROOT / "seglab").glob("*.py"))) <= 8


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 250
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            assert (node.end_lineno or 0) - first.lineno + 1 <= 40, node.name
