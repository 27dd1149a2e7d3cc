"""Parts of a training: loss, metrics, loading, and the dilated depthwise layer."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from seglab.config.parts import build_data
from seglab.labels import one_hot
from seglab.losses import CrossEntropy, Lovasz, LovaszSorted
from seglab.maps.scoring import class_map, confusion_each
from seglab.models.dilated_depthwise import dilated_depthwise
from tests.benchmarks.config import composed
from tests.benchmarks.timing import Row, batch, milliseconds

SIZE = 224


def lovasz(peer: ModuleType | None, script: Path | None, tiles: Path, seeds: int) -> Iterator[Row]:
    """Lovász-Softmax, forward and backward, against the peer's and in units of cross-entropy; and its error."""
    _, mask = batch(SIZE, 8)
    target = one_hot(mask, 4)
    logits = torch.randn(target.shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    theirs = peer.LOSSES["lovasz"]() if peer else None
    counted = Lovasz()

    def gradient(loss: Callable[[Tensor, Tensor], Tensor], truth: Tensor) -> Tensor:
        return torch.autograd.grad(loss(logits, truth), logits)[0]

    truth = mask.long()
    plain, mine = milliseconds(theirs and (lambda: gradient(theirs, truth)), lambda: gradient(counted, target))
    yield Row("Lovász forward + backward, 8 x 4 x 224²", plain, mine, "ms")
    entropy, again = milliseconds(lambda: gradient(CrossEntropy(), target), lambda: gradient(counted, target))
    assert entropy is not None
    yield Row("Lovász in units of cross-entropy", plain and plain / entropy, again / entropy, "times")
    exact = LovaszSorted()
    yield Row(
        "Lovász, value against sorting",
        None,
        float((counted(logits, target) - exact(logits, target)).detach().abs()),
        "",
    )
    both = (gradient(f, target).double().flatten() for f in (counted, exact))
    yield Row(
        "Lovász, 1 - cosine of the gradient to sorting", None, 1 - float(torch.cosine_similarity(*both, dim=0)), ""
    )


def metrics(peer: ModuleType | None, script: Path | None, tiles: Path, seeds: int) -> Iterator[Row]:
    """Scores of a batch: the peer's argmax and torchmetrics against our class map and counts."""
    _, mask = batch(SIZE, 8)
    logits = torch.randn(8, 4, SIZE, SIZE)
    truth = mask.long()
    metric = MulticlassJaccardIndex(4)
    times = milliseconds(lambda: metric(logits.argmax(1), truth), lambda: confusion_each(class_map(logits), mask, 4))
    yield Row("metrics of a batch", *times, "ms")


def loading(peer: ModuleType | None, script: Path | None, tiles: Path, seeds: int) -> Iterator[Row]:
    """One image, decoded, resized and augmented, after the first epoch; both without workers."""
    names = sorted(f.name for f in (tiles / "data").glob("*.png"))[:32]
    theirs = peer.Tiles(tiles, names, SIZE, True) if peer else None
    with tempfile.TemporaryDirectory() as cache:
        data = build_data(composed("data=folder", f"data.root={tiles}", f"data.size={SIZE}", f"data.cache_dir={cache}"))
        data.setup()
        loader = data.train_dataloader()
        count = len(data.indices[0])
        all_of_theirs = theirs and (lambda: [theirs[i] for i in range(len(names))])
        plain, mine = milliseconds(all_of_theirs, lambda: list(loader), 5)
        yield Row(f"loading of an image, {SIZE}", plain and plain / len(names), mine / count, "ms")


def dilated(peer: ModuleType | None, script: Path | None, tiles: Path, seeds: int) -> Iterator[Row]:
    """Forward and backward of [8,960,32,32] at dilation 2, in float32 and in bfloat16, and its error."""
    generator = torch.Generator().manual_seed(0)
    shapes = (8, 960, 32, 32), (960, 1, 3, 3), (8, 960, 32, 32)
    values = [torch.randn(s, generator=generator) for s in shapes]

    def native(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, None, 1, 2, 2, 960)

    def ours(x: Tensor, weight: Tensor) -> Tensor:
        return dilated_depthwise(x, weight, 2)

    for dtype in (torch.float32, torch.bfloat16):
        x, weight, g = (v.to(dtype) for v in values)
        wanted = _gradients(native, x.double(), weight.double(), g.double())[1]
        x, g = (v.contiguous(memory_format=torch.channels_last) for v in (x, g))
        calls = [partial(_gradients, f, x, weight, g) for f in (native, ours)]
        name = f"dilated depthwise [8,960,32,32], {str(dtype).removeprefix('torch.')}"
        yield Row(f"{name}, forward + backward", *milliseconds(*calls, 3), "ms")
        errors = [float((call()[1].double() - wanted).norm() / wanted.norm()) for call in calls]
        yield Row(f"{name}, error of the weight gradient", *errors, "")


def _gradients(convolution: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor, g: Tensor) -> tuple:
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    return torch.autograd.grad(convolution(x, weight), (x, weight), g)
