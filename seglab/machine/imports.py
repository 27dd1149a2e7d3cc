"""Importing large libraries without the pauses of garbage collection."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Within it no garbage is collected.

    torch, Lightning, smp and albumentations make very many objects that stay. Looking through them again and again
    takes 1.0 of the 4.2 s of processor time in which they are imported.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
