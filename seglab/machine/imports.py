"""Importing large libraries without the pauses of garbage collection."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


@contextmanager
def without_collection() -> Iterator[None]:
    """Within it no garbage is collected; what the first one leaves is never looked through again.

    torch, Lightning, smp and albumentations make very many objects that stay. Looking through them again and again
    takes 1.0 of the 4.2 s of processor time in which they are imported, and later 0.1 s at the end of each training.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
        _freeze()


@cache
def _freeze() -> None:
    """Once, at the start: later there may be garbage, which would stay for ever."""
    gc.freeze()
