"""Problems of a data set: one line each, and one line for all files that share one."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

SHOWN = 3
"""Names that stand for all, where many files share a problem."""


class DataError(ValueError):
    """Everything that is wrong with a data set; `problems` holds one line a problem."""

    def __init__(self, root: Path | str, problems: list[str], shown: int = 50):
        self.problems = problems
        groups = grouped(problems)
        lines = groups[:shown] + [f"and {len(groups) - shown} more"] * (len(groups) > shown)
        head = f"the data in {root} can't be used, {len(problems)} problem{'s' * (len(problems) > 1)}:"
        super().__init__("\n  ".join([head, *lines]))


def grouped(problems: Iterable[str]) -> list[str]:
    """The lines, where more than three files share a problem in one line with their number and three of the names."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for line in problems:
        head, name, tail = _parts(line)
        groups[head, tail].append((name, line))
    out = []
    for (head, tail), members in groups.items():
        if len(members) > SHOWN:
            names = ", ".join(name for name, _ in members[:SHOWN])
            noun = "images" if head else "files"
            out.append(f"{head}{len(members)} {noun} ({names}, …){tail}")
        else:
            out += [line for _, line in members]
    return out


def _parts(line: str) -> tuple[str, str, str]:
    """A line as what is before the name that differs, the name, and what is behind it."""
    head, found, name = line.partition(": no scene for ")
    if found:
        return head + found, name, ""
    name, found, what = line.partition(": ")
    if not found:
        return "", line, line  # names no file, so that it shares no line
    return "", name, found + what.replace(f"/{PurePath(name).stem}.*", "/<the same name>.*")


def some(names: Sequence[str]) -> str:
    """`a, b, c and 5 more`."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def file_name(path: Path) -> str:
    """`data/1.png`: a file as a person finds it below the root, on one line whatever its name holds."""
    name = f"{path.parent.name}/{path.name}" if path.parent.name else path.name
    return name if name.isprintable() else name.encode("unicode_escape").decode()
