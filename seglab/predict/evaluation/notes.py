"""Sentences on an evaluation: how far its scores can be believed; and the scores as a table of text."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from seglab.data.presence import unmeasured
from seglab.predict.evaluation.counting import Counts
from seglab.run.reading import RecordError

if TYPE_CHECKING:
    from seglab.predict.evaluation.evaluate import Evaluator

ONCE = "a test split that is looked at more than once biases what is chosen"


def notes(evaluator: "Evaluator", counts: Counts, content: Mapping[str, Any]) -> list[str]:
    """All that a reader of the scores must know."""
    out = [*_on_data(evaluator, counts), *unmeasured(evaluator.wish.split, counts.pixels, counts.classes)]
    trained = evaluator.known.get("device")
    if trained and trained != content["device"]:
        out.append(f"scored on {content['device']}, trained on {trained}: the last digits may differ from validation's")
    if content["looks"] > 1:
        out.append(f"scored {content['looks']} times: {ONCE}")
    return out


def _on_data(evaluator: "Evaluator", counts: Counts) -> Iterator[str]:
    split = evaluator.wish.split
    if not evaluator.known.get("data"):
        yield "the run does not tell on which data it was trained: whether these images are among them is not known"
    elif not evaluator.of_own_data:
        yield "other data than it was trained on: their files, names or scenes differ"
        if split != "all" and not _are_of_its_split(evaluator, counts):
            yield "its own validation images have other names: images that trained it may be among these"
    elif split == "all":
        trained = len(evaluator.data.indices[0])
        yield f"{trained} of these {len(counts.names)} images trained it: the score is no score of new images"


def _are_of_its_split(evaluator: "Evaluator", counts: Counts) -> bool:
    """True if these are, by name, the images that validated it; of a test split, whether none of them did."""
    try:
        own = evaluator.run.records.validation()
    except RecordError:
        return False
    if own is None:
        return False
    found = {*counts.names}
    if evaluator.wish.split == "val":
        return found == {*own.names}
    return {evaluator.data.cache.names[i] for i in evaluator.data.indices[1]} == {*own.names}


def table(content: Mapping[str, Any]) -> str:
    """The scores of an evaluation as lines of text: a row for each class, and for the whole."""
    scores = content["scores"]
    boundary = content["boundary_f"]
    distances = [name.removeprefix("boundary_f_").removesuffix("px") for name in boundary]
    classes = list(scores.get("iou") or {})
    width = max(map(len, [*classes, "all classes"]))
    rows = [["", "IoU", *(f"boundary F {d} px" for d in distances)]]
    for name in classes:
        rows.append([name, _number(scores["iou"][name]), *(_number(b["classes"].get(name)) for b in boundary.values())])
    rows.append(["all classes", _number(scores.get("miou")), *(_number(b["mean"]) for b in boundary.values())])
    lines = [
        f"{row[0]:<{width}}  "
        + "  ".join(f"{cell:>{max(6, len(head))}}" for cell, head in zip(row[1:], rows[0][1:], strict=True))
        for row in rows
    ]
    others = [f"{name} {_number(value)}" for name, value in scores.items() if not isinstance(value, Mapping)]
    scenes = f" of {_plural(content['scenes'], 'scene')}" if content["scenes"] else ""
    head = f"{content['split']}, {content['checkpoint']} checkpoint: {_plural(content['images'], 'image')}{scenes}"
    return "\n".join([f"{head}, {content['pixels']:,} labelled pixels", *lines, ", ".join(others)])


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _number(value: float | None) -> str:
    return "absent" if value is None or value != value else f"{value:.4f}"
