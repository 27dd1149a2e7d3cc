"""Arguments of the data module: one line for each value that nothing could use."""

from collections.abc import Sequence


def check_numbers(batch_size: int, num_workers: int) -> None:
    """Raises ValueError for a value below the least."""
    for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
        if value < least:
            raise ValueError(f"{name}={value}: accepted is {least} or more")


def height_width(name: str, value: int | Sequence[int] | None) -> tuple[int, int] | None:
    """One number, or height and width, as both. Raises ValueError."""
    if value is None:
        return None
    h, w = (value, value) if isinstance(value, int) else (tuple(value) if len(value) == 2 else (0, 0))
    if min(h, w) < 1:
        raise ValueError(f"{name}={value}: accepted is one number, or [height, width], of at least 1 pixel")
    return h, w
