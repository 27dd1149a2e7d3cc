"""The images and labels on which a run is scored, split as its config says, from the user's own places."""

from pathlib import Path

from seglab.config.foreign import build_reader
from seglab.config.read import of_data, own_cache
from seglab.config.schema import Config
from seglab.data import DataError, SegmentationData
from seglab.data.batches.windows import WindowGrid
from seglab.data.decoded import DecodedData
from seglab.data.kept.image_set import ImageSet
from seglab.data.problems import grouped
from seglab.predict.images import decoded_copy
from seglab.run.folder import Run

ALL = "all"
SPLITS = ("val", "test", ALL)


def data_of(run: Run, config: Config, root: Path | None = None) -> SegmentationData:
    """The data of `root`, or the decoded copy that training made, with the reader, size and batches of the run.

    A run folder is untrusted: none of its paths is opened. Raises ValueError, one line, for data that can't be used.
    """
    reader = build_reader(config)
    settings = of_data(config).model_dump() | {"classes": config.classes, "reader": reader, "augment": [], "seed": 0}
    settings["bands"] = config.bands
    if root is None:
        content, copy = decoded_copy(run, config)
        return DecodedData(copy, content, own_cache(), **settings)
    if not root.is_dir():
        raise ValueError(f"--data {root}: no such folder; accepted is one that holds data/ and label/")
    data = SegmentationData(root, cache_dir=str(own_cache()), **settings)
    pairs, faults = reader.pairs(root)
    if not pairs or faults:
        raise ValueError(_one_line(root, faults or ["no pair of an image and a label"]))
    return data


def positions(data: SegmentationData, split: str, whole: bool = False) -> list[int]:
    """Positions of the images of a split, none where the config keeps no test split: in the cache, as validation has
    them, or of `whole` images where validation has windows. Raises ValueError, one line.
    """
    cache = cache_of(data)
    if split == ALL:
        return list(range(len(cache.whole if whole else cache)))
    if isinstance(data, DecodedData) and not data.tells_scenes:
        raise ValueError(
            f"{own_cache()}: the copy of the data is of an earlier version; --data ROOT shows their scenes"
        )
    try:
        return (data.pair_sides if whole else data.sides)[1 + SPLITS.index(split)]
    except DataError as e:
        raise ValueError(_one_line(data.root, e.problems)) from e


def cache_of(data: SegmentationData) -> ImageSet | WindowGrid:
    """The decoded pixels. Raises ValueError, one line, for files that can't be used."""
    try:
        return data.cache
    except DataError as e:
        raise ValueError(_one_line(data.root, e.problems)) from e


def _one_line(root: Path, problems: list[str]) -> str:
    first, *more = grouped(problems)
    return f"{root}: {first}" + (f" (and {len(more)} more)" if more else "")
