"""Arguments of the data module: one line for each value that nothing could use."""

from collections.abc import Sequence

from seglab.data.batches.supply import AUTO


def check_numbers(batch_size: int, num_workers: int | str) -> None:
    """Raises ValueError for a value below the least, or a word that is none."""
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: accepted is 1 or more")
    if num_workers != AUTO and (not isinstance(num_workers, int) or num_workers < 0):
        raise ValueError(f"num_workers={num_workers}: accepted is {AUTO}, or 0 or more")


def height_width(name: str, value: int | Sequence[int] | None) -> tuple[int, int] | None:
    """One number, or height and width, as both. Raises ValueError."""
    if value is None:
        return None
    h, w = (value, value) if isinstance(value, int) else (tuple(value) if len(value) == 2 else (0, 0))
    if min(h, w) < 1:
        raise ValueError(f"{name}={value}: accepted is one number, or [height, width], of at least 1 pixel")
    return h, w
