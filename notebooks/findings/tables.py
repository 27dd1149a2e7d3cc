"""Records as markdown tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from seglab.pages.markdown import markdown_table


def of(records: "Mapping[str, Any] | Sequence[Any]") -> str:
    """Named tuples as rows, with their names before them where they have some."""
    rows = list(records.items()) if isinstance(records, Mapping) else [("", record) for record in records]
    fields = [field.replace("_", " ") for field in rows[0][1]._fields]
    lead = [""] if isinstance(records, Mapping) else []
    return markdown_table(
        [[*lead, *fields], *([*([shown(name)] if lead else []), *map(shown, record)] for name, record in rows)]
    )


def shown(value: Any) -> str:
    """A number as a reader wants it."""
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("_", " ")
