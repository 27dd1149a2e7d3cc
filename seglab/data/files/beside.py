"""Files that belong to an image or a label: its place on the earth, its mask, or the parts of a shapefile."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

WORLD_FILES = (".tfw", ".tifw", ".tiffw", ".jgw", ".jpgw", ".jpegw", ".pgw", ".pngw", ".bpw", ".bmpw", ".j2w", ".jp2w")
SHAPEFILE = (".shx", ".dbf", ".prj", ".cpg")

BESIDE = (*WORLD_FILES, ".wld", ".msk", ".xml", *SHAPEFILE)


def beside(paths: Iterable[Path]) -> dict[Path, tuple[Path, ...]]:
    """The files that belong to each of these, as `a.tfw`, `a.tif.msk` and `a.tif.aux.xml` belong to `a.tif`."""
    wanted = list(paths)
    found: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for folder in {path.parent for path in wanted}:
        for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in BESIDE):
            name = path.name.removesuffix(".aux.xml").removesuffix(".msk")
            found[folder, Path(name).stem].append(path)
    return {path: tuple(found.get((path.parent, path.stem), ())) for path in wanted}
