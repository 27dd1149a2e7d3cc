"""What all tests share: where the reference material is, and a quiet, repeatable torch."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden values and real images; tests that need it are skipped, and say so, where it is absent."""
    path = Path(os.environ.get("SEGLAB_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no reference material at {path}: set SEGLAB_SHARED to the folder that holds golden/ and data/")
    return path
