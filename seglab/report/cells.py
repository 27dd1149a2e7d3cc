"""Run folders -> the cells of a study: which run counts for each, and which tables they form."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from seglab.config.identity import WORDS, Identity, recorded
from seglab.config.read import read
from seglab.config.schema import Config, flat
from seglab.pages.text import printable
from seglab.run.evaluations import flat as flat_scores
from seglab.run.folder import DONE, Run, runs_of

SUPERSEDED, UNREADABLE = "superseded", "unreadable"
"""A newer run of the same cell counts instead of it; its folder is not one that seglab writes."""


AGAIN = "Their scores may differ by that alone; the same command trains cells of another code or device again."
"""End of a sentence on cells that are not quite comparable."""


@dataclass(frozen=True)
class Cell:
    """One run: its table, its place in it, and its results."""

    table: str
    loss: str
    epochs: int
    seed: int
    folder: str
    results: Mapping[str, Any]
    val: Mapping[str, float | None]
    """validation scores by key; empty unless done"""
    test: Mapping[str, float | None]
    """scores of the test split by key, by which no cell is ranked; empty unless `seglab evaluate` scored it"""
    notes: Sequence[str]
    """sentences on the test scores that a reader must know"""
    run: Run
    config: Config
    identity: Identity

    @property
    def status(self) -> str:
        """`done`, or why there is no score."""
        return self.results["status"]


class Told(Protocol):
    """Whatever tells a run's config and identity."""

    @property
    def config(self) -> Config: ...
    @property
    def identity(self) -> Identity: ...


@dataclass(frozen=True)
class Found:
    """A run folder that could be read."""

    run: Run
    config: Config
    identity: Identity
    results: Mapping[str, Any]
    finished: str
    val: Mapping[str, float | None]
    test: Mapping[str, float | None]
    notes: Sequence[str]


@dataclass(frozen=True)
class Study:
    """The cells that count, those that newer ones supersede, and why other folders can't be read, by folder."""

    cells: list[Cell]
    superseded: list[Cell]
    unreadable: dict[str, str]


def mixtures(table: Sequence[Cell]) -> list[str]:
    """Sentences on finished cells of one table that differ in more than loss, epochs and seed."""
    done = [cell for cell in table if cell.status == DONE and cell.identity.code]
    out = []
    for loss in dict.fromkeys(cell.loss for cell in done):
        versions = {cell.identity.code for cell in done if cell.loss == loss}
        if len(versions) > 1:
            out.append(f"The cells of {loss} were trained by {len(versions)} versions of the code. {AGAIN}")
    for fact in ("versions", "device"):
        values = {str(cell.identity.facts[fact]) for cell in done}
        if len(values) > 1:
            named = f" ({', '.join(sorted(values))})" if fact == "device" else ""
            out.append(f"The cells of this table were trained on {len(values)} kinds of {WORDS[fact]}{named}. {AGAIN}")
    return out


def cells(study: Path) -> list[Cell]:
    """The cells of a study that count, by table, loss, epochs and seed."""
    return read_cells(study).cells


def read_cells(study: Path) -> Study:
    """All that the run folders of a study say.

    The cells of a table are equal in all but loss, epochs and seed, and of the same data; titles name the keys in which
    tables differ. Of several runs of one cell the newest finished one counts.
    """
    found: list[Found] = []
    unreadable: dict[str, str] = {}
    for run in runs_of(study):
        try:
            found.append(_found(run))
        except (OSError, ValueError) as e:  # among them the errors of a config and of a record
            unreadable[printable(run.folder.name)] = printable(first_line(e))
    tables = _titles(found, lambda f: f"{f.config.names.model}, {f.config.names.data}", settings_of(found))
    losses = _titles(found, lambda f: f.config.names.loss, [_node("loss", f.config.loss) for f in found])
    places: dict[tuple, list[Found]] = {}
    for f, table, loss in zip(found, tables, losses, strict=True):
        places.setdefault((table, loss, f.config.epochs, f.config.seed), []).append(f)
    counting: list[Cell] = []
    superseded: list[Cell] = []
    for place, runs in sorted(places.items(), key=lambda item: item[0]):
        first, *others = sorted(runs, key=lambda f: (f.results["status"] == DONE, f.finished), reverse=True)
        counting.append(_cell(place, first, first.results))
        superseded += [_cell(place, f, _superseded(f, first)) for f in others]
    return Study(counting, superseded, unreadable)


def first_line(error: Exception) -> str:
    """One line for an error."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _found(run: Run) -> Found:
    config = read(run)
    environment = run.environment() if run.environment_file.exists() else {}
    results = run.results()
    val = run.scores() if results["status"] == DONE else {}
    identity = recorded(environment, config)
    return Found(run, config, identity, results, run.finished, val, *_tested(run, results, identity.data))


def _tested(run: Run, results: Mapping[str, Any], data: str) -> tuple[dict[str, float | None], list[str]]:
    """Scores of the test split of a finished run, and sentences on them."""
    name = printable(run.folder.name)
    try:
        found = run.evaluations.test(results.get("identity", ""), data) if results["status"] == DONE else None
    except (OSError, ValueError) as e:
        return {}, [f"{name}: its test scores can't be read ({printable(first_line(e))})"]
    if found is None:
        return {}, []
    often = f"{name}: its test split was scored {found['looks']} times, which biases what is chosen by it"
    return flat_scores(found), [often] if found["looks"] > 1 else []


def _cell(place: tuple, found: Found, results: Mapping[str, Any]) -> Cell:
    table, loss, epochs, seed = place
    val = found.val if results["status"] == DONE else {}
    name = printable(found.run.folder.name)
    test = found.test if results["status"] == DONE else {}
    own = (found.run, found.config, found.identity)
    return Cell(table, loss, epochs, seed, name, results, val, test, found.notes, *own)


def _superseded(f: Found, by: Found) -> dict[str, Any]:
    differs = [WORDS[name] for name in f.identity.differs(by.identity)] or ["nothing that its folder records"]
    was = f.results["status"]
    name = printable(by.run.folder.name)
    return {"status": SUPERSEDED, "reason": f"{was}; {name} counts; differs in {', '.join(differs)}"}


def settings_of(found: Sequence[Told]) -> list[dict[str, Any]]:
    """The keys in which tables differ: what decides weights but is no axis, and the content of the data."""
    return [
        flat(f.config.select(lambda role: role.weights and not role.axis)) | {"data.root": label} | flat(_drawn(f))
        for f, label in zip(found, _data_labels(found), strict=True)
    ]


def _drawn(found: Told) -> dict[str, Any]:
    """The settings of data that a constructor makes; none of a folder."""
    root = found.config.data.get("root")
    if not isinstance(root, Mapping):
        return {}
    return {"data.root": {k: v for k, v in root.items() if k not in ("_target_", "cache_dir")}}


def _node(name: str, node: Mapping[str, Any]) -> dict[str, Any]:
    return flat({name: node})


def _data_labels(found: Sequence[Told]) -> list[str]:
    """A name for the data of each run: equal where the content is; a run that does not tell it has its own."""
    contents = [f.identity.data or f"{_root(f)}, not recorded" for f in found]
    first = {content: f for f, content in reversed(list(zip(found, contents, strict=True)))}
    roots = [(_root(f), flat(_drawn(f))) for f in first.values()]
    names = {
        content: root
        if roots.count((root, drawn)) == 1
        else f"{root} (content {content[:8] if root not in content else 'not recorded'})"
        for content, (root, drawn) in zip(first, roots, strict=True)
    }
    return [names[content] for content in contents]


def _root(found: Told) -> str:
    root = found.config.data.get("root")
    return root if isinstance(root, str) else found.config.names.data


def _titles(found: Sequence[Found], head: Callable[[Found], str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The head of each run, and the settings in which it differs from others of the same head."""
    heads = [head(f) for f in found]
    values: dict[str, dict[str, set[str]]] = {}  # of each head and key
    for own_head, own in zip(heads, settings, strict=True):
        for key, value in own.items():
            values.setdefault(own_head, {}).setdefault(key, set()).add(text_of(value))
    alike = Counter(heads)
    have = Counter((h, key) for h, own in zip(heads, settings, strict=True) for key in own)
    out = []
    for own_head, own in zip(heads, settings, strict=True):
        differs = [k for k, v in values.get(own_head, {}).items() if len(v) > 1 or have[own_head, k] < alike[own_head]]
        out.append(printable(", ".join([own_head, *(f"{k}={text_of(own.get(k))}" for k in differs)])))
    return out


def text_of(value: Any) -> str:
    """A setting in one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
