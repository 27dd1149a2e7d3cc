"""The way of batches to the device: gathered from images that lie there, or prepared by workers while it computes."""

import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from seglab.data.batches.loaders import loader
from seglab.data.batches.resident import Resident, Sources, room, size
from seglab.data.batches.samples import Samples
from seglab.data.kept.image_set import Decoded, ImageSet

AUTO = "auto"

MOST_WORKERS = 16
"""Workers that `auto` starts at most. Each prepares two batches ahead, which for 8 images of 1024 x 1024 are 67 MB."""

log = logging.getLogger(__name__)


class Supply:
    """Loaders for the CPU, or for the device of `send_to`. No choice made here changes a pixel or its order."""

    def __init__(self, num_workers: int | str):
        self.num_workers = num_workers
        self.device = torch.device("cpu")
        self.cores = 1
        self._residents: list[Resident] = []

    def send_to(self, device: torch.device, cores: int) -> None:
        """Batches will go to this device, from a process that has so many cores."""
        if device != self.device:
            self._residents = []
        self.device, self.cores = device, cores

    def loader(self, samples: Samples, **batches: Any) -> DataLoader:
        """A loader of `batch_size` and `sampler`, or of a `batch_sampler`."""
        held = self._held(samples) if samples.only_move else None
        if held:
            return loader(Sources(samples), 0, False, collate_fn=held.batch, **batches)
        return loader(samples, self.workers(samples.whole), self.device.type == "cuda", **batches)

    def workers(self, images: ImageSet) -> int:
        """Processes that prepare batches: as many as asked.

        `auto`: one on each core but one where else a GPU waits, or where images are decoded each time; none for a CPU
        and images that are decoded already.
        """
        if isinstance(self.num_workers, int):
            return self.num_workers
        dear = self.device.type == "cuda" or not isinstance(images, Decoded)
        return max(1, min(MOST_WORKERS, self.cores - 1)) if dear else 0

    def _held(self, samples: Samples) -> Resident | None:
        """The images of these samples on the device, uploaded now if they were not and fit; else None."""
        images = samples.images
        for held in self._residents:
            if held.positions >= images:
                return held
        needed = size(samples.whole, images)
        if not 0 < needed <= room(self.device, sum(held.size for held in self._residents)):
            return None
        log.info("%.2f GB of decoded images lie on %s", needed / 1e9, self.device)
        self._residents.append(Resident(samples.whole, sorted(images), self.device))
        return self._residents[-1]


def copied(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch on a GPU. It is copied on a stream of its own, from pinned memory while the step before computes."""
    beside, now = _stream_of_copies(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(beside):
        there = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
    now.wait_stream(beside)
    for value in there.values():
        if isinstance(value, Tensor):
            value.record_stream(now)  # else its memory could be used again before the step has read it
    return there


@cache
def _stream_of_copies(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
