"""The wall: validation samples in rows, input | label | each cell's map, and behind each map its errors."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from seglab.labels import VOID, rgb
from seglab.pages.page import picture
from seglab.pages.pictures import RIGHT, WRONG, panel_parts, preview
from seglab.predict.images import Look, images_of
from seglab.report.study import Entry, Table
from seglab.run.reading import RecordError, inside
from seglab.run.records import evenly, mapped
from seglab.scores import confusion, miou

if TYPE_CHECKING:
    from seglab.data import SegmentationData

WORST = 6
"""Samples with the lowest mIoU."""

DISAGREEING = 6
"""Samples on which the cells disagree most."""

MOST_COLUMNS = 12
"""Most cells of the wall; if there are more, only the longest training of each loss and seed is shown."""

WIDTH = 256
"""Pixels to which wider samples are shrunk."""

MOST_BYTES = 9_000_000
"""Size of all pictures of a page, so that the page stays below 15 MB and can be mailed."""


@dataclass
class Tile:
    """A cell's map of one sample, its errors, and the mIoU on this image."""

    cell: str
    map: str
    error: str
    miou: float


@dataclass
class Row:
    """One sample: why it is shown, its pictures (empty where the data is not at hand), and a tile for each cell."""

    name: str
    scene: str
    kinds: list[str]
    image: str
    label: str
    tiles: list[Tile]

    @property
    def bytes(self) -> int:
        """Size of all its pictures."""
        return len(self.image) + len(self.label) + sum(len(t.map) + len(t.error) for t in self.tiles)


@dataclass
class Wall:
    """Rows of one table, and notes on the parts that are not shown."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    across: int = 6
    """Maps side by side on a wide screen; all cells of a loss stay on one line if they are few enough."""


def build_wall(table: Table, data: "SegmentationData | Path | None" = None, most_bytes: int = MOST_BYTES) -> Wall:
    """The wall of a table. `data` is that of a running training, or its root; else its decoded copy is looked for."""
    wall = Wall()
    shown = columns(table.compared)
    if not shown:
        return Wall([], ["No finished cell has saved its maps yet."])
    if len(shown) < len(table.compared):
        wall.notes.append(f"{len(shown)} of {len(table.compared)} cells: the longest training of each loss and seed.")
    each = max(sum(e.cell.loss == s.cell.loss for e in shown) for s in shown)
    wall.across = each * (6 // each) if each <= 6 else 6
    look = _looking(table, data, wall.notes)
    spent = 0
    kinds = choose(shown)
    if shown[0].validation and (kept := len(with_maps(shown))) < (count := len(shown[0].validation.names)):
        wall.notes.append(f"The samples are chosen among the {kept:,} of {count:,} whose maps are kept (maps=).")
    for name, why in kinds.items():
        try:
            row = _row(shown, name, why, look, table.classes)
        except RecordError as e:
            wall.notes.append(f"{name} is left out: {e}")
            continue
        spent += row.bytes
        if spent > most_bytes:
            wall.notes.append(f"{len(kinds) - len(wall.rows)} more samples are left out, to keep the page small.")
            break
        wall.rows.append(row)
    lost = [r.name for r in wall.rows if not r.image]
    if lost:
        wall.notes.append(
            f"The images and labels of {len(lost)} samples are not at hand, so their errors are not shown."
        )
    return wall


def columns(entries: Sequence[Entry]) -> list[Entry]:
    """The cells of the wall: all, or if those are too many, the longest training of each loss and seed."""
    if len(entries) <= MOST_COLUMNS:
        return list(entries)
    longest = {(e.cell.loss, e.cell.seed): e for e in sorted(entries, key=lambda e: e.cell.epochs)}
    return sorted(longest.values(), key=lambda e: (e.cell.loss, e.cell.seed))[:MOST_COLUMNS]


def with_maps(entries: Sequence[Entry]) -> frozenset[str]:
    """Names of the images whose maps all of these cells keep."""
    kept = [mapped(e.validation.names, e.config.maps, e.config.pictures) for e in entries if e.validation]
    return frozenset(kept[0]).intersection(*kept)


def choose(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Names -> reasons to show each: the `fixed` samples, the `worst`, and those on which the cells `disagree` most."""
    assert entries[0].validation
    every = entries[0].validation.names
    there = with_maps(entries)
    at = [i for i, name in enumerate(every) if name in there]
    names = [every[i] for i in at]
    scores = np.stack([miou(e.validation.confusion[at]) for e in entries if e.validation])  # [cells,N]
    kinds: dict[str, list[str]] = {}
    for i in evenly(len(every), entries[0].config.pictures):
        if every[i] in there:
            kinds.setdefault(every[i], []).append("fixed")
    for i in np.argsort(np.nan_to_num(scores.mean(0), nan=1.0), kind="stable")[:WORST]:
        kinds.setdefault(names[i], []).append("worst")
    if len(entries) > 1:
        spread = np.nan_to_num(scores.max(0) - scores.min(0))
        likely = [names[i] for i in np.argsort(-spread, kind="stable")[: 5 * DISAGREEING]]
        for name in sorted(likely, key=lambda n: -disagreement(entries, n))[:DISAGREEING]:
            kinds.setdefault(name, []).append("disagree")
    return kinds


def disagreement(entries: Iterable[Entry], name: str) -> float:
    """Share of the pixels of an image on which the maps differ."""
    try:
        maps = [m for m in (e.run.records.map(name) for e in entries) if m is not None]
    except RecordError:
        return 0.0
    if len({m.shape for m in maps}) != 1:
        return 0.0
    return float((np.stack(maps) != maps[0]).any(0).mean())


def _row(entries: Sequence[Entry], name: str, kinds: list[str], look: Look, classes: Mapping[str, str]) -> Row:
    assert entries[0].validation
    at = entries[0].validation.names.index(name)
    colors = [*classes.values(), "#000000"]
    maps = [e.run.records.map(name) for e in entries]
    found = look(name)
    if found is None or any(m is not None and m.shape != found[1].shape for m in maps):
        found = None
    tiles = []
    for e, prediction in zip(entries, maps, strict=True):
        assert e.validation
        score = float(miou(e.validation.confusion[at]))
        if prediction is None or prediction.max(initial=0) >= len(classes):
            raise RecordError(f"{e.cell.folder} has no usable map of it")
        error = flat_picture(_errors(found[1], prediction), [RIGHT, WRONG, "#000000"]) if found else ""
        tiles.append(Tile(e.name, flat_picture(prediction, colors), error, score))
    image = picture(preview(found[0]), WIDTH, quality=75) if found else ""
    label = flat_picture(np.minimum(found[1], len(classes)), colors) if found else ""
    return Row(name, entries[0].validation.scenes[at], kinds, image, label, tiles)


def _errors(mask: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    return np.where(mask == VOID, 2, mask != prediction).astype(np.uint8)


def flat_picture(ids: np.ndarray, colors: Sequence[str]) -> str:
    """`data:` URI of ids `uint8 [H,W]`, one colour each: a PNG of few bits, ten times as fast as lossless WebP."""
    made = Image.fromarray(ids)
    if made.width > WIDTH:
        made = made.resize((WIDTH, max(1, round(made.height * WIDTH / made.width))), Image.Resampling.NEAREST)
    made.putpalette([part for color in colors for part in rgb(color)])
    out = io.BytesIO()
    made.save(out, "PNG", bits=max(1, (len(colors) - 1).bit_length()) if len(colors) <= 16 else 8)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _looking(table: Table, data: "SegmentationData | Path | None", notes: list[str]) -> Look:
    """Lookup in the data if it is that of the runs, else in the panels that the runs keep."""
    entry = table.compared[0]
    try:
        if data is None or isinstance(data, Path):
            at_hand = images_of(entry.run, entry.config, data)
        else:
            at_hand = _of_training(data)
    except (ValueError, OSError) as e:  # among them the errors of a config and of a record
        notes.append(f"The data is not at hand ({_first_line(e)}): shown are the pictures that the runs saved.")
        return lambda name: _from_panel(entry, name)

    def look(name: str) -> tuple[np.ndarray, np.ndarray] | None:
        found = at_hand(name)
        return found if found and _is_that_of(entry, name, found[1]) else _from_panel(entry, name)

    return look


def _of_training(data: "SegmentationData") -> Look:
    place = {name: i for i, name in enumerate(data.cache.names)}
    return lambda name: data.cache[place[name]] if name in place else None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(":") if str(error) else type(error).__name__


def _is_that_of(entry: Entry, name: str, mask: np.ndarray) -> bool:
    """True if a label gives the counts that the run kept of this image: the data may have changed since."""
    prediction = entry.run.records.map(name)
    kept = entry.validation
    if prediction is None or kept is None or prediction.shape != mask.shape:
        return False
    if prediction.max(initial=0) >= len(entry.classes):
        return False
    return bool((confusion(mask, prediction, len(entry.classes)) == kept.confusion[kept.names.index(name)]).all())


def _from_panel(entry: Entry, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    prediction = entry.run.records.map(name)
    if prediction is None:
        return None
    try:
        path = inside(entry.run.pictures / f"{name}.png", entry.run.folder)
        return panel_parts(path, prediction.shape, entry.classes)
    except Exception:  # no such file, or a broken picture, which makes Pillow raise what it likes
        return None
