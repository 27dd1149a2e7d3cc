"""Peak memory of a training step at 1024², batch 2, U-Net 64/4, and its parts."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from seglab.config.parts import build_model
from seglab.labels import one_hot
from seglab.losses import CrossEntropy
from tests.benchmarks.config import composed
from tests.benchmarks.timing import Row, batch


def rows(peer: ModuleType | None, script: Path | None, tiles: Path, seeds: int) -> Iterator[Row]:
    """GiB at the peak of two steps, each loop in a process of its own; then the parts of ours."""
    plain, ours = (_measured(how) for how in ("plain", "ours"))
    yield Row("peak memory, U-Net 64/4 1024 x 2", plain.pop("peak"), ours.pop("peak"), "GiB")
    for part, size in ours.items():
        yield Row(f"  of which {part}", plain[part], size, "GiB")


def _measured(how: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-m", __name__, how], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def step(how: str) -> dict[str, float]:
    """GiB of two steps: the peak, and its parts, such as the tensors kept for the backward pass."""
    before = _resident()
    net = build_model(composed("model=unet")).train()
    image, mask = batch(1024, 2)
    if how == "plain":
        net = net.lay_out(torch.contiguous_format)
        target = one_hot(mask, 4).float()
        kept_before = [image, (image - 1) / 2]
    else:
        image = image.contiguous(memory_format=torch.channels_last)
        target = one_hot(mask, 4)
        kept_before = [image]
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=how == "ours")
    saved: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        saved[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    for i in range(2):
        optimizer.zero_grad()
        if i == 0:
            with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
                loss = _loss(how, net(image), target, mask)
        else:
            loss = _loss(how, net(image), target, mask)
        loss.backward()
        optimizer.step()
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
    activations = sum(size for pointer, size in saved.items() if pointer not in weights)
    parts = {
        "kept for the backward pass": activations,
        "weights, gradients and Adam": 4 * sum(p.numel() * p.element_size() for p in net.parameters()),
        "images and targets": sum(t.numel() * t.element_size() for t in [*kept_before, target, mask]),
    }
    out = {"peak": _resident() - before, **parts}
    out["buffers of one layer and its gradient"] = out["peak"] - sum(parts.values())
    return {name: size / 2**30 for name, size in out.items()}


def _loss(how: str, logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return F.cross_entropy(logits, mask.long()) if how == "plain" else CrossEntropy()(logits, target)


def _resident() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    if sys.argv[1] == "ours":
        from seglab.machine.isolation import keep_freed_memory

        keep_freed_memory()
    print(json.dumps(step(sys.argv[1])))
