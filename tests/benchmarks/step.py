"""A training step without loading, the peer's loop and ours in turn, each in a process of its own."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglab.config.parts import build_model
from seglab.labels import one_hot
from seglab.losses import CrossEntropy
from seglab.machine.isolation import keep_freed_memory
from seglab.machine.precision import resolved_precision
from tests.benchmarks.config import composed
from tests.benchmarks.timing import Row, batch, load

ROUNDS = 3


def rows(peer: ModuleType, script: Path, tiles: Path, seeds: int) -> Iterator[Row]:
    """Images per second: DeepLabV3+ at batch 8 against the peer's loop, plain and tuned; U-Net 64/4 at batch 2."""
    for name, theirs, mine, steps in (
        ("step, DeepLabV3+ 224 x 8, peer plain", "plain", "ours", 8),
        ("step, DeepLabV3+ 224 x 8, peer tuned", "tuned", "ours", 2),
        ("step, U-Net 64/4 224 x 2, plain loop", "unet-plain", "unet-ours", 3),
    ):
        speeds: dict[str, list[float]] = {theirs: [], mine: []}
        for _ in range(ROUNDS if "tuned" not in theirs else 1):
            for loop, kept in speeds.items():
                command = [sys.executable, "-m", __name__, loop, str(script), str(steps)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                kept.append(json.loads(done.stdout.splitlines()[-1]))
        yield Row(name, *(statistics.median(kept) for kept in speeds.values()), "images/s", True)


def speed(loop: str, script: Path, steps: int) -> float:
    """Images per second of a loop: the median step after two warm-up steps."""
    model, _, how = loop.rpartition("-")
    image, mask = batch(224, 2 if model else 8)
    if how == "ours":
        keep_freed_memory()
    step = {"ours": ours, "plain": plain, "tuned": plain}[how](model, how, script, image, mask)
    times = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return len(image) / statistics.median(times[2:])


def plain(model: str, how: str, script: Path, image: Tensor, mask: Tensor) -> Callable[[], None]:
    """The peer's step, with its network; the peer has no U-Net, so there it is ours in torch's own layout."""
    tuned = how == "tuned"
    truth = mask.long()
    if model:
        net: nn.Module = build_model(composed("model=unet")).lay_out(torch.contiguous_format)
    else:
        net = load(script).Segmenter("deeplabv3plus", "cross_entropy", 1e-3, tuned).net
    image = image.contiguous(memory_format=torch.channels_last) if tuned else image

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=tuned):
            logits = net(image)
        return F.cross_entropy(logits.float(), truth)

    return trainer(net, loss, torch.optim.Adam(net.parameters(), 1e-3))


def ours(model: str, how: str, script: Path, image: Tensor, mask: Tensor) -> Callable[[], None]:
    """Our step, in the precision that `auto` chooses, the target made of bytes as in training."""
    net = build_model(composed(f"model={model or 'deeplabv3plus'}"))
    bf16 = resolved_precision("auto") == "bf16-mixed"
    function = CrossEntropy()
    image = image.contiguous(memory_format=torch.channels_last)

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = net(image)
        return function(logits, one_hot(mask, 4))

    return trainer(net, loss, torch.optim.Adam(net.parameters(), 1e-3, fused=True))


def trainer(net: nn.Module, loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """One step: forward, loss, backward, optimiser."""
    net.train()

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    print(json.dumps(speed(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
