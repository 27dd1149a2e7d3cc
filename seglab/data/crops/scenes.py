"""Scenes to cut and the label of each: files found by their names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from seglab.data.files.listing import RASTERS, SUFFIXES, composed, natural
from seglab.data.files.polygons import BEGINNINGS, is_polygons
from seglab.data.files.scenes import read_scenes
from seglab.data.problems import DataError, file_name

LABELS = (*SUFFIXES, *BEGINNINGS)
LABEL = "_label"
"""End of the name of a label that may lie beside its scene."""


@dataclass(frozen=True)
class Scene:
    """A large image and its label."""

    name: str
    image: Path
    label: Path
    group: str
    """what scenes.csv calls it: scenes whose grounds overlap may share one, so that no split parts them"""


def find_scenes(images: Sequence[Path], labels: Sequence[Path], groups: Path | None = None) -> list[Scene]:
    """The scenes of files and folders, in natural order; without `labels`, each has its `<name>_label.*` beside it.

    A single file of polygons is the label of all. `groups`: a table name,scene of their groups.
    Raises DataError with every scene that has no label, or more than one, and every name that two scenes have.
    """
    found = [path for path in _files(images, RASTERS) if not _is_label(path)]
    given = _files(labels, LABELS) if labels else []
    for_all = given if len(given) == 1 and is_polygons(given[0]) else []
    problems: list[str] = []
    scenes: dict[str, Scene] = {}
    for path in sorted(found, key=lambda path: natural(composed(path.stem))):
        name = composed(path.stem)
        if name in scenes:
            problems.append(f"{file_name(path)}: {file_name(scenes[name].image)} has the same name")
            continue
        fitting = for_all or _labels(path, given or _beside(path))
        if len(fitting) != 1:
            problems.append(f"{file_name(path)}: {_why(path, fitting, labels)}")
        scenes[name] = Scene(name, path, fitting[0] if fitting else path, name)
    if not found:
        problems.append(f"no scene in it ({', '.join(RASTERS)})")
    if groups is not None:
        if not groups.is_file():
            raise FileNotFoundError(f"--groups {groups}: no such file")
        of = read_scenes(groups, list(scenes), problems)
        scenes = {name: replace(scene, group=of.get(name, name)) for name, scene in scenes.items()}
    if problems:
        raise DataError(", ".join(map(str, images)), problems)
    return list(scenes.values())


def _files(paths: Iterable[Path], suffixes: Sequence[str]) -> list[Path]:
    """The files, those of folders if they have such a suffix. Raises FileNotFoundError."""
    out: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        for file in inside:
            if file is path or (file.suffix.lower() in suffixes and file.name[0] != "." and file.is_file()):
                out.setdefault(file.resolve(), file)
    return list(out.values())


def _is_label(path: Path) -> bool:
    """True if it is the label of a scene beside it."""
    stem = path.stem.removesuffix(LABEL)
    return stem != path.stem and any((path.parent / f"{stem}{suffix}").exists() for suffix in RASTERS)


def _beside(scene: Path) -> list[Path]:
    labels = [path for path in sorted(scene.parent.iterdir()) if path.suffix.lower() in LABELS]
    return [path for path in labels if path.stem.endswith(LABEL)]


def _labels(scene: Path, labels: Iterable[Path]) -> list[Path]:
    names = (composed(scene.stem), composed(f"{scene.stem}{LABEL}"))
    return [path for path in labels if composed(path.stem) in names and path.resolve() != scene.resolve()]


def _why(scene: Path, fitting: Sequence[Path], labels: Sequence[Path]) -> str:
    if fitting:
        return f"several labels ({', '.join(map(file_name, fitting))}), accepted is one"
    name = f"{scene.stem}{LABEL}.*"
    if not labels:
        return f"no label {name} beside it; --labels names another place"
    return f"no label {name} or {scene.stem}.* in {', '.join(map(str, labels))}"
