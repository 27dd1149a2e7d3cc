"""The end of a test that lacks something of its surroundings."""

import os
from typing import NoReturn

import pytest


def absent(reason: str) -> NoReturn:
    """Skips a test that can't run here; in CI, where all that tests need is meant to be, it fails."""
    if os.environ.get("CI"):
        pytest.fail(f"in CI this is no reason to skip a test: {reason}")
    pytest.skip(reason)
