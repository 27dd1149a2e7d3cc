"""A finished run's opinion on the labels of a data set."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from seglab.audit.label_issues import Issue, label_issues
from seglab.audit.survey import Source
from seglab.config.read import of_data, read
from seglab.config.schema import Config
from seglab.data import SegmentationData
from seglab.data.files.resize import resized
from seglab.data.split import SplitError
from seglab.maps.scoring import probabilities
from seglab.predict.predict import load_network
from seglab.run.folder import Run

if TYPE_CHECKING:
    from seglab.models.network import Network


@dataclass(frozen=True)
class SecondOpinion:
    """`issues`, the most contradicted first; `seen`: the images that the run was trained on, None if unknown."""

    run: Path
    checkpoint: str
    network: "Network"
    size: tuple[int, int] | None
    issues: Sequence[Issue]
    seen: frozenset[str] | None

    def sample(self, source: Source, i: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Image and mask as the run sees them: at its `data.size`. None where a pair has no usable pixels."""
        pair = source.load(i)
        return None if pair.image is None or pair.mask is None else resized(pair.image, pair.mask, self.size)


def second_opinion(folder: Path, checkpoint: str, data: SegmentationData, source: Source) -> SecondOpinion:
    """Asks the run about every pair, one at a time. Raises ValueError for no run, or one of other classes."""
    run = Run(folder)
    config = read(run)
    classes = list(config.classes)
    size = of_data(config).height_width
    network = load_network(run, checkpoint)
    if classes != list(data.classes):
        raise ValueError(f"{folder}: its classes are {', '.join(classes)}, those of the data {', '.join(data.classes)}")
    if config.bands != (None if data.reader.bands is None else list(data.reader.bands)):
        raise ValueError(f"{folder}: its data.bands are {config.bands}, those of the data {data.reader.bands}")
    asking = SecondOpinion(folder, checkpoint, network, size, (), _seen(run, config, data))
    found = label_issues(_samples(asking, source), partial(probabilities, network))
    ranked = sorted(found, key=lambda issue: (np.nan_to_num(issue.score, nan=2.0), issue.index))
    return SecondOpinion(folder, checkpoint, network, size, ranked, asking.seen)


def _samples(opinion: SecondOpinion, source: Source) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    for i in tqdm(range(len(source.pairs)), "asking the run", disable=None, leave=False):
        sample = opinion.sample(source, i)
        if sample:
            yield i, *sample


def _seen(run: Run, config: Config, data: SegmentationData) -> frozenset[str] | None:
    """Names of the images of this data set that the run's own split trains on; None if it had another data set."""
    if not _same_data(run, config, data):
        return None
    groups = [pair.scene or pair.name for pair in data.pairs]
    try:
        return frozenset(data.pairs[i].name for i in of_data(config).rule.sides(groups)[0])
    except SplitError:
        return None


def _same_data(run: Run, config: Config, data: SegmentationData) -> bool:
    root = config.data.get("root")
    if isinstance(root, str) and os.path.abspath(os.path.expanduser(root)) == os.path.abspath(data.root):
        return True  # the names were compared, nothing was opened
    content = run.environment().get("data") if run.environment_file.exists() else None
    return bool(content) and content == data.content
