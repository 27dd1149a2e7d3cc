"""Keeps what a validation shows: in a cell's last epoch its maps and counts, and now and then a few maps to look at."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch

from seglab.config.schema import Config
from seglab.data import SegmentationData
from seglab.maps.evidence import Evidence, scored_batches
from seglab.maps.scoring import Scored
from seglab.models.network import Network
from seglab.run.records import Records, evenly, mapped


class Keeper:
    """Sees each batch of a validation. Of several processes that train together each writes the maps of its images.

    `kept`: the records that the last validation was written into. `maps`: `uint8 [H,W]` of the fixed samples.
    """

    def __init__(self, data: SegmentationData, config: Config):
        self.data = data
        self.config = config
        self.kept: Records | None = None
        self.maps: dict[str, np.ndarray] = {}
        self._evidence: Evidence | None = None
        self._shows = False

    @property
    def pictures(self) -> dict[str, int]:
        """Names and positions in the cache of the fixed samples, evenly spread over the validation images."""
        val = self.data.indices[1]
        return {self.data.cache.names[i]: i for i in (val[k] for k in evenly(len(val), self.config.pictures))}

    @cached_property
    def mapped_names(self) -> frozenset[str]:
        """Names of the images whose maps a cell keeps."""
        names = [self.data.cache.names[i] for i in self.data.indices[1]]
        return frozenset(mapped(names, self.config.maps, self.config.pictures))

    def begin(self, records: Records | None, shows: bool) -> None:
        """Starts a validation that is kept in `records`, and whose fixed samples are shown."""
        self.kept = records
        self.maps = {}
        self._shows = shows
        self._evidence = Evidence(len(self.data.classes), self.config.pr_curves) if records else None

    def add(self, batch: Mapping[str, Any], scored: Scored) -> None:
        """Sees `batch` as validation does, on its device."""
        if self._evidence is None and not self._shows:
            return
        if self._evidence is not None:
            self._evidence.add(batch["name"], batch["mask"], scored)
        shown = set(self.pictures) if self._shows else set()
        kept = self.mapped_names if self.kept is not None else frozenset()
        if not (shown | kept).intersection(batch["name"]):
            return
        maps = dict(zip(batch["name"], scored.map.byte().cpu().numpy(), strict=True))
        self.maps |= {name: prediction for name, prediction in maps.items() if name in shown}
        for name, prediction in maps.items():
            if self.kept is not None and name in kept:
                self.kept.write_map(name, prediction)

    def end(self, processes: int = 1) -> None:
        """Writes what was kept; of several processes the first, of what all have seen."""
        if self._evidence is None and not self._shows:
            return
        seen = [(self._evidence, self.maps)]
        if processes > 1:
            seen = [seen[0] for _ in range(processes)]
            torch.distributed.all_gather_object(seen, (self._evidence, self.maps))
        whole, self.maps = seen[0]
        for evidence, maps in seen[1:]:
            self.maps |= maps
            if whole is not None and evidence is not None:
                whole.join(evidence)
        if whole is not None and (processes == 1 or torch.distributed.get_rank() == 0):
            self._write(whole)

    def score(self, records: Records, net: Network, device: torch.device) -> None:
        """Scores the validation split now, where a kill left a finished training without its records."""
        self.begin(records, shows=False)
        for batch, scored in scored_batches(net, self.data, self.config.precision, device):
            self.add(batch, scored)
        self.end()

    def _write(self, evidence: Evidence) -> None:
        assert self.kept is not None
        scenes = self.data.scenes
        order = [self.data.cache.names[i] for i in self.data.indices[1]]
        rows = ((name, scenes[name], [n for row in evidence.counts[name] for n in row]) for name in order)
        self.kept.write_validation(list(self.data.classes), rows)
        self.kept.write_calibration(evidence.calibration.numpy())
        if evidence.histogram is not None:
            self.kept.write_probabilities(list(self.data.classes), evidence.histogram.numpy())
