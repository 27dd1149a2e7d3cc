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
from seglab.machine.precision import autocast, resolved_precision
from tests.benchmarks.config import composed
from tests.benchmarks.timing import Row, batch, load

ROUNDS = 3


def rows(peer: ModuleType | None, script: Path | None, tiles: Path, seeds: int) -> Iterator[Row]:
    """Images per second: DeepLabV3+ at batch 8 against the peer's loop, plain and tuned; U-Net 64/4 at batch 2."""
    for name, theirs, mine, steps in (
        ("step, DeepLabV3+ 224 x 8, peer plain", "plain", "ours", 8),
        ("step, DeepLabV3+ 224 x 8, peer tuned", "tuned", "ours", 2),
        ("step, U-Net 64/4 224 x 2, plain loop", "unet-plain", "unet-ours", 3),
    ):
        if theirs == "tuned" and script is None:
            continue  # ours alone is in the row before
        rounds = ROUNDS if theirs != "tuned" else 1
        yield beside(name, [] if theirs == "plain" and script is None else [theirs], mine, script, rounds, str(steps))


def beside(name: str, theirs: list[str], mine: str, script: Path | None, rounds: int, *how: str) -> Row:
    """The row of two loops in turn, each time in a process of its own; of one where `theirs` is empty."""
    speeds: dict[str, list[float]] = {loop: [] for loop in [*theirs, mine]}
    for _ in range(rounds):
        for loop, kept in speeds.items():
            command = [sys.executable, "-m", __name__, loop, str(script or ""), *how]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr.strip())
            kept.append(json.loads(done.stdout.splitlines()[-1]))
    plain = [statistics.median(speeds[loop]) for loop in theirs]
    return Row(name, plain[0] if plain else None, statistics.median(speeds[mine]), "images/s", True)


def speed(loop: str, script: Path, steps: int, device: str = "cpu", size: int = 224, count: int = 8) -> float:
    """Images per second of a loop: the median of so many times after two to warm up, on a GPU of ten steps each."""
    model, _, how = loop.rpartition("-")
    image, mask = (t.to(device) for t in batch(size, 2 if model else count))
    if how == "ours" and device == "cpu":
        keep_freed_memory()
    step = {"ours": ours, "plain": plain, "tuned": plain}[how](model, how, script, image, mask)
    at_once = 1 if device == "cpu" else 10
    times = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        for _ in range(at_once):
            step()
        if device != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - start)
    return at_once * len(image) / statistics.median(times[2:])


def plain(model: str, how: str, script: Path, image: Tensor, mask: Tensor) -> Callable[[], None]:
    """The peer's step, with its network; the peer has no U-Net, so there it is ours in torch's own layout."""
    tuned = how == "tuned"
    truth = mask.long()
    if model:
        net: nn.Module = build_model(composed("model=unet")).lay_out(torch.contiguous_format)
    else:
        peer = load(script)
        assert peer
        net = peer.Segmenter("deeplabv3plus", "cross_entropy", 1e-3, tuned).net
    net.to(image.device)
    image = image.contiguous(memory_format=torch.channels_last) if tuned else image

    def loss() -> Tensor:
        with torch.autocast(image.device.type, torch.bfloat16, enabled=tuned):
            logits = net(image)
        return F.cross_entropy(logits.float(), truth)

    return trainer(net, loss, torch.optim.Adam(net.parameters(), 1e-3))


def ours(model: str, how: str, script: Path | None, image: Tensor, mask: Tensor) -> Callable[[], None]:
    """Our step, in the precision that `auto` chooses, the target made of bytes as in training."""
    accelerator = "cpu" if image.device.type == "cpu" else "gpu"
    precision = resolved_precision("auto", accelerator)
    net = build_model(composed(f"model={model or 'deeplabv3plus'}", f"trainer={accelerator}")).to(image.device)
    function = CrossEntropy()
    image = image.contiguous(memory_format=torch.channels_last)

    def loss() -> Tensor:
        with autocast(precision, image.device):
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
    loop, script, steps, *where = sys.argv[1:]
    device, *sizes = where or ["cpu"]
    print(json.dumps(speed(loop, Path(script), int(steps), device, *map(int, sizes))))
