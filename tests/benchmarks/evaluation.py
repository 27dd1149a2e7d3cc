"""The forward pass of validation and prediction at 1024²: the plain loop of the peer's parts against our path."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch

from seglab.config.parts import build_model
from seglab.machine.isolation import keep_freed_memory
from seglab.models.inference import for_inference
from tests.benchmarks.config import composed
from tests.benchmarks.timing import Row, batch, milliseconds


def rows(peer: ModuleType | None, script: Path | None, tiles: Path, seeds: int) -> Iterator[Row]:
    """Images per second, from one image to its class map, in float32 on both sides."""
    image, _ = batch(1024, 1)
    net = for_inference(build_model(composed("model=deeplabv3plus")).eval())
    last = image.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        plain = None
        if peer:
            theirs = peer.Segmenter("deeplabv3plus", "cross_entropy", 1e-3, False).net.eval()
            plain = 1e3 / milliseconds(None, lambda: theirs(image).argmax(1), 5)[1]
        keep_freed_memory()  # for the rest of the process, so after the peer's turn
        mine = milliseconds(None, lambda: net(last).max(1).indices, 5)[1]
    yield Row("evaluation forward, DeepLabV3+ 1024 x 1", plain, 1e3 / mine, "images/s", True)
