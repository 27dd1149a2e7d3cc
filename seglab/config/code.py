"""The source files that a training executes, found by their import statements."""

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from seglab.machine.environment import COMPUTING, PACKAGE

STEPS = (
    "seglab.config.parts",  # builds the objects
    "seglab.machine.isolation",  # threads, random states, flags
    "seglab.machine.precision",
    "seglab.task.task",  # seeds and steps
    "seglab.training.fit",  # where training starts or resumes
)
"""Modules of every training; those that define its model, loss, data and schedule come with their imports."""


def code_hash(constructors: Iterable[str]) -> str:
    """Hash of the files that a training with constructors from these modules executes."""
    contents = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in files(constructors))
    return hashlib.sha256("".join(contents).encode()).hexdigest()


def files(constructors: Iterable[str]) -> set[Path]:
    """The files of STEPS, and those that the modules `constructors` are and import.

    Libraries whose version is part of an identity are left out.
    """
    libraries = {name.replace("-", "_") for name in COMPUTING}
    named = [name for name in constructors if name.partition(".")[0] not in libraries]
    return {path for name in STEPS if (path := source(name))} | imported(named)


def imported(modules: Iterable[str]) -> set[Path]:
    """Files of these modules and of what they import from seglab and from their own packages, and so on.

    An `__init__.py` that only re-exports, and what is imported under TYPE_CHECKING, do not count.
    """
    waiting = list(modules)
    packages = {name.partition(".")[0] for name in waiting} | {"seglab"}
    seen: set[str] = set()
    found: set[Path] = set()
    while waiting:
        name = waiting.pop()
        path = source(name)
        if name in seen or path is None:
            continue
        seen.add(name)
        content = path.read_bytes()
        if not _only_reexports(path, content):
            found.add(path)
            waiting += _imports(name, path, content, frozenset(packages))
        above = name.rpartition(".")[0]
        if above and above.partition(".")[0] != "seglab":  # importing a module runs the packages around it
            waiting.append(above)
    return found


@cache
def source(module: str) -> Path | None:
    """The file of a module; None of a name that is none, or has no Python file."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):
        return None
    origin = Path(spec.origin) if spec and spec.origin else None
    return origin if origin and origin.suffix == ".py" and origin.is_file() else None


@cache
def _imports(module: str, path: Path, content: bytes, packages: frozenset[str]) -> tuple[str, ...]:
    """Names of the modules of `packages` that the statements of a file import, each where it is defined."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: dict[str, None] = {}
    for node in _executed(ast.parse(content)):
        if isinstance(node, ast.Import):
            names |= dict.fromkeys(alias.name for alias in node.names if alias.name.partition(".")[0] in packages)
        elif isinstance(node, ast.ImportFrom) and (base := _base(node, package)).partition(".")[0] in packages:
            names |= dict.fromkeys(_definition(base, alias.name) for alias in node.names)
    return tuple(names)


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from _executed(other)
        else:
            yield node
            yield from _executed(node)


def _base(node: ast.ImportFrom, package: str) -> str:
    """The module that a `from` statement in a package names, also by dots."""
    parts = package.split(".")
    above = parts[: len(parts) - node.level + 1] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


def _definition(package: str, name: str) -> str:
    """The module that `from package import name` gets the name from, also where an `__init__` re-exports it."""
    if source(f"{package}.{name}"):
        return f"{package}.{name}"
    path = source(package)
    if path and path.name == "__init__.py":
        for node in ast.parse(path.read_bytes()).body:
            base = _base(node, package) if isinstance(node, ast.ImportFrom) else package
            names = {a.asname or a.name: a.name for a in node.names} if isinstance(node, ast.ImportFrom) else {}
            if name in names and base != package:
                return _definition(base, names[name])
    return package


@cache
def _only_reexports(path: Path, content: bytes) -> bool:
    if path.name != "__init__.py":
        return False
    inert = (ast.Import, ast.ImportFrom, ast.Expr)
    return path.parent == PACKAGE or all(isinstance(n, inert) or _assigns_all(n) for n in ast.parse(content).body)


def _assigns_all(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["__all__"]
