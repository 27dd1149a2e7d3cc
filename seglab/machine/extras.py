"""Libraries that only some users need: imported when used, and named with their extra where they are missing."""

import importlib
from typing import Any

EXTRAS = {
    "rasterio": "geo",
    "pyogrio": "geo",
    "shapely": "geo",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
}
"""The optional extra of pyproject.toml that brings each of these modules."""


class MissingExtra(ValueError):
    """A library of an optional extra is not installed; one line says which extra brings it."""


def optional(module: str, what: str) -> Any:
    """The module of an extra. Raises MissingExtra: `what` (a file, an option) needs it."""
    try:
        return importlib.import_module(module)
    except ImportError as e:
        extra = EXTRAS[module.partition(".")[0]]
        raise MissingExtra(f"{what} needs {e.name or module}: pip install 'seglab[{extra}]'") from e


def installed(module: str) -> bool:
    """True if a module of an extra can be imported."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True
