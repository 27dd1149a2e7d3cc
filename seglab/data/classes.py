"""The rule of class names: text that columns and pictures can tell apart."""

from collections.abc import Mapping

from seglab.labels import VOID, rgb


def check_classes(classes: Mapping[str, str]) -> None:
    """Raises ValueError for names that are no text or that collide, wrong colours, and too few or many classes."""
    for name, color in classes.items():
        if not isinstance(name, str):
            word = {True: "yes", False: "no"}.get(name, name) if isinstance(name, bool) else name
            kind = "true or false" if isinstance(name, bool) else "a number"
            raise ValueError(f'class name {name!r}: YAML reads it as {kind}; accepted is text, in quotes: "{word}"')
        if not name.strip() or not name.isprintable() or " as " in name:
            raise ValueError(f"class name {name!r}: accepted is a name that can be read, in one line, without ' as '")
        rgb(color)
    if len({name.replace("/", ".") for name in classes}) < len(classes):
        raise ValueError("class names differ in / and . only, which columns of grid.csv do not tell apart")
    if not 2 <= len(classes) <= VOID:
        raise ValueError(f"classes names {len(classes)} class(es): accepted are at least 2 and at most {VOID}")
