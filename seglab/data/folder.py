"""The reader of a folder `root/data/*` + `root/label/*`: which pairs there are, and the pixels of one."""

import csv
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from seglab.labels import LabelError, index_map, index_map_from_colors, rgb

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
log = logging.getLogger(__name__)


class DataError(ValueError):
    """Everything that is wrong with a data set, one line a problem."""

    def __init__(self, root: Path | str, problems: list[str], shown: int = 50):
        self.problems = problems
        lines = problems[:shown] + [f"and {len(problems) - shown} more"] * (len(problems) > shown)
        head = f"the data in {root} can't be used, {len(problems)} problem{'s' * (len(problems) > 1)}:"
        super().__init__("\n  ".join([head, *lines]))


@dataclass(frozen=True)
class Pair:
    """One image and its label; `scene` says from which scene it was cut, where that is known."""

    name: str
    image: Path
    label: Path
    scene: str | None = None


class FolderReader:
    """Reads pairs of equal stems from two folders.

    `palette` null: a label holds class ids, in one channel or in three equal ones. Else it holds colours, and `palette`
    maps each `#rrggbb` to a class name or to `void`.
    """

    def __init__(self, palette: dict[str, str] | None = None, image_folder: str = "data", label_folder: str = "label"):
        for color in palette or ():
            rgb(color)
        self.palette, self.image_folder, self.label_folder = palette, image_folder, label_folder

    def pairs(self, root: Path) -> tuple[list[Pair], list[str]]:
        """All pairs in natural order of their names, and every problem found: one line each."""
        problems: list[str] = []
        images = _by_stem(root / self.image_folder, problems)
        labels = _by_stem(root / self.label_folder, problems)
        for has, lacks, folder in ((images, labels, self.label_folder), (labels, images, self.image_folder)):
            problems += [f"{has[s].relative_to(root)}: there is no {folder}/{s}.*" for s in has.keys() - lacks]
        names = sorted(images.keys() & labels.keys(), key=natural)
        scenes = _scenes(root / "scenes.csv", names, problems)
        return [Pair(n, images[n], labels[n], scenes.get(n)) for n in names], sorted(problems, key=natural)

    def load(self, pair: Pair, classes: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray]:
        """Image `uint8 [H,W,3]` and index map `uint8 [H,W]`. Raises ValueError that names the file and the reason."""
        image = pixels(pair.image, "RGB")
        label = pixels(pair.label, "RGB" if self.palette else None)
        try:
            mask = (
                index_map_from_colors(label, self.palette, classes) if self.palette else index_map(label, len(classes))
            )
        except LabelError as e:
            raise ValueError(f"{pair.label.parent.name}/{pair.label.name}: {e}") from e
        if image.shape[:2] != mask.shape:
            (h, w), (y, x) = image.shape[:2], mask.shape
            raise ValueError(f"{pair.image.parent.name}/{pair.image.name}: the image is {w}x{h}, its label {x}x{y}")
        return image, mask


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts `2` before `10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name) if part]


def _by_stem(folder: Path, problems: list[str]) -> dict[str, Path]:
    if not folder.is_dir():
        problems.append(f"{folder.name}/: no such folder")
        return {}
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.is_dir():
            continue
        if path.suffix.lower() not in SUFFIXES:
            log.warning("%s is not an image (%s): passed over", path, ", ".join(SUFFIXES))
        elif path.stem in found:
            problems.append(f"{folder.name}/{path.name}: {found[path.stem].name} has the same name")
        else:
            found[path.stem] = path
    if not found:
        problems.append(f"{folder.name}/: no images in it ({', '.join(SUFFIXES)})")
    return found


def _scenes(path: Path, names: list[str], problems: list[str]) -> dict[str, str]:
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as f:
        rows = csv.DictReader(f)
        if not {"name", "scene"} <= set(rows.fieldnames or ()):
            problems.append(f"{path.name}: columns {rows.fieldnames or []}, expected name,scene")
            return {}
        scenes = {row["name"]: row["scene"] for row in rows}
    problems += [f"{path.name}: no scene for {n}" for n in names if not scenes.get(n)]
    return scenes


def pixels(path: Path, mode: str | None) -> np.ndarray:
    """An image file as an array, converted to Pillow's `mode` if given. Raises ValueError naming file and reason."""
    try:
        with Image.open(path) as picture:
            if picture.mode.startswith(("I;16", "F")) and mode:
                raise ValueError(f"pixels of type {picture.mode}, expected 8 bits a channel")
            return np.asarray(picture.convert(mode) if mode and picture.mode != mode else picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
        reason = "not a readable image" if "cannot identify image file" in str(e) else e
        raise ValueError(f"{path.parent.name}/{path.name}: {reason}") from e
