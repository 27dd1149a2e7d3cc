"""Rows -> a table in Markdown."""

from collections.abc import Sequence


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Header and rows with aligned columns."""
    rows = [[value.replace("|", r"\|") for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [rows[0], ["-" * w for w in widths], *rows[1:]]
    return "\n".join(f"| {' | '.join(v.ljust(w) for v, w in zip(r, widths, strict=True))} |" for r in lines)
