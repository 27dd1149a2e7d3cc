"""A finished run's opinion on the labels of a data set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from seglab.audit.label_issues import Issue, label_issues
from seglab.audit.survey import Source
from seglab.config.constructors import check_node
from seglab.config.parts import build_data
from seglab.config.read import read
from seglab.data import DataError, SegmentationData
from seglab.data.cache import resized
from seglab.maps.scoring import probabilities
from seglab.models.network import Network
from seglab.predict.predict import load_network
from seglab.run.folder import Run


@dataclass(frozen=True)
class SecondOpinion:
    """`issues`, the most contradicted first; `seen`: the images that the run was trained on, None if unknown."""

    run: Path
    checkpoint: str
    network: Network
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
    network = load_network(run, checkpoint)
    check_node("data", config)
    classes = list(config.classes)
    if classes != list(data.classes):
        raise ValueError(f"{folder}: its classes are {', '.join(classes)}, those of the data {', '.join(data.classes)}")
    of_run = build_data(config)
    asking = SecondOpinion(folder, checkpoint, network, of_run.size, (), _seen(of_run, data))
    found = label_issues(_samples(asking, source), partial(probabilities, network))
    ranked = sorted(found, key=lambda issue: (np.nan_to_num(issue.score, nan=2.0), issue.index))
    return SecondOpinion(folder, checkpoint, network, of_run.size, ranked, asking.seen)


def _samples(opinion: SecondOpinion, source: Source) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    for i in tqdm(range(len(source.pairs)), "asking the run", disable=None, leave=False):
        sample = opinion.sample(source, i)
        if sample:
            yield i, *sample


def _seen(of_run: SegmentationData, data: SegmentationData) -> frozenset[str] | None:
    """Names of the images that the run's own split trains on; None if its folder is not this one."""
    if of_run.root.resolve() != data.root.resolve():
        return None
    try:
        return frozenset(of_run.pairs[i].name for i in of_run.indices[0])
    except DataError:
        return None
