"""A step never makes a GPU wait: run on tensors without values, from which nothing can be read."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.profilers import PassThroughProfiler
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seglab.config.parts import build_loss, build_task
from seglab.data import SegmentationData
from seglab.labels import ROWS, counted_in_rows, occurrences
from seglab.losses import CrossEntropy
from seglab.losses.class_weights import per_class
from seglab.training.gauges import Gauges
from tests.test_conf import choices, composed

META = torch.device("meta")
ON_THE_HOST = {"boundary_distance"}
"""Losses whose maps scipy makes: they wait for the device at each step, as their docstring says."""
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "bincount", "equal", "is_nonzero", "_unique2", "item"}


class Waited(Exception):
    """Something asked the device for a value, or for a copy."""


class NoWait(TorchDispatchMode):
    """Every device but the CPU is one that must not be waited for; its launches are counted by name."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        name = func.overloadpacket.__name__
        asked = any(t.device.type != "cpu" for t in tensors)
        if asked and (name in WAITS or (name.startswith("index") and has_mask(args))):
            raise Waited(name)
        out = func(*args, **(kwargs or {}))
        if not func.is_view and not name.startswith("empty") and name != "detach":
            self.launches[name] += 1
        devices = {t.device.type for t in (*tensors, *tree_leaves(out)) if isinstance(t, Tensor) and t.dim()}
        if len(devices) > 1 or (name in ("_to_copy", "copy_") and len({t.device for t in [*tensors, out]}) > 1):
            raise Waited(f"{name} between {devices}")
        return out


def has_mask(args: Any) -> bool:
    return any(isinstance(t, Tensor) and t.dtype in (torch.bool, torch.uint8) for t in tree_leaves(list(args[1:2])))


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.masked_select(x > 0),
        lambda x: torch.bincount(x.long(), minlength=4),
        lambda x: x.cpu(),
        lambda x: torch.tensor([1.0, 2.0]).to(x.device),
    ],
)
def test_the_watch_sees_what_waits(ask: Any) -> None:
    with NoWait(), pytest.raises((Waited, NotImplementedError, RuntimeError)):
        ask(torch.ones(4, device=META))


def step(
    model: str, loss: str, *overrides: str, index: int = 0, device: torch.device = META
) -> tuple[dict[str, float], Counter[str]]:
    """All that seglab does in a training step and a validation step on a device: images scored, and launches.

    The launches are those of a training step without the optimiser, which torch cannot run there.
    """
    config = composed(f"model={model}", f"loss={loss}", *overrides)
    with device:
        task = build_task(config)
    task = task.to(device)
    progress = SimpleNamespace(current=SimpleNamespace(processed=0))
    trainer: Any = SimpleNamespace(
        **{"fit_loop": SimpleNamespace(epoch_progress=progress), "num_val_batches": [1], "num_training_batches": 100},
        **{"global_step": index, "max_epochs": 1, "strategy": None, "precision_plugin": None, "world_size": 1},
        profiler=PassThroughProfiler(),
        accumulate_grad_batches=1,
    )
    task._trainer, trainer.optimizers = trainer, [task.configure_optimizers()]
    gauges = Gauges()
    gauges.on_train_start(trainer, task)
    task.on_train_epoch_start()
    data: Any = SimpleNamespace(classes=config["data"]["classes"])
    pixels = {
        "image": torch.zeros(2, 96, 96, 3, dtype=torch.uint8, device=device),
        "mask": torch.zeros(2, 96, 96, dtype=torch.uint8, device=device),
    }
    with NoWait() as watch:
        batch = SegmentationData.on_after_batch_transfer(data, pixels | {"name": ["a", "b"]}, 0)
        task.train()
        task.on_train_batch_start(batch, index)
        gauges.on_train_batch_start(trainer, task, batch, index)
        task.training_step(batch, index).backward()
        gauges.on_before_optimizer_step(trainer, task, trainer.optimizers[0])
        gauges.on_train_batch_end(trainer, task)
        launches = watch.launches.copy()
        task.on_validation_epoch_start()
        task.eval()
        with torch.no_grad():
            task.validation_step(batch, 0)
    return {name: tally.images for name, tally in task.tallies.items()}, launches


SMALL_UNET = ("model.min_kernel_num=4", "model.depth=2")


@pytest.mark.parametrize("loss", [name for name in choices("loss") if name not in ON_THE_HOST])
def test_no_loss_waits(loss: str) -> None:
    assert step("unet", loss, *SMALL_UNET)[0] == {"train": 2, "val": 2}


@pytest.mark.parametrize("model", choices("model"))
def test_no_model_waits(model: str) -> None:
    assert step(model, "cross_entropy")[0] == {"train": 2, "val": 2}


def test_batch_norms_cost_no_launch_each() -> None:
    """Their counters are one launch, and another momentum is one."""
    _, late = step("deeplabv3plus", "cross_entropy", index=50)
    _, early = step("deeplabv3plus", "cross_entropy", index=5)
    assert late["native_batch_norm"] > 60 and late["_foreach_add_"] == 1
    assert early - late == Counter(fill_=1) and late["add_"] < 20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("model", choices("model"))
def test_no_step_of_a_real_gpu_waits(model: str) -> None:
    step(model, "lovasz", device=torch.device("cuda"))  # the first one may: cuDNN is loaded
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(model, "lovasz", device=torch.device("cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("loss", sorted(ON_THE_HOST))
def test_the_exceptions_are_exceptions(loss: str) -> None:
    with pytest.raises((Waited, NotImplementedError)):
        step("unet", loss, *SMALL_UNET)


def test_class_weights_are_no_copy() -> None:
    weights = [0.5, 1.0, 2.5]
    assert per_class("w", weights, torch.zeros(1, 3, 2, 2, dtype=torch.double)).flatten().tolist() == weights
    logits, target = torch.empty(2, 3, 8, 8, device=META), torch.empty(2, 3, 8, 8, dtype=torch.uint8, device=META)
    with NoWait():
        CrossEntropy(weights)(logits, target)
        build_loss(composed("loss=focal", "loss.alpha=[1,2,3]"))(logits, target)


@pytest.mark.parametrize("count", [1, 9, 5000, 3 * 2**21])
@pytest.mark.parametrize("length", [0, 1, 3000])
def test_a_gpu_counts_in_private_rows(count: int, length: int) -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(0, min(count, 40), (length,), generator=generator, dtype=torch.int32)
    got = counted_in_rows(numbers, count)
    assert got.dtype == torch.int64 and torch.equal(got, occurrences(numbers, count))


def test_equal_numbers_do_not_queue_for_one_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    indices: list[Tensor] = []
    scatter = Tensor.scatter_add_
    monkeypatch.setattr(
        Tensor, "scatter_add_", lambda s, d, index, v: (indices.append(index), scatter(s, d, index, v))[1]
    )
    counted_in_rows(torch.full((4 * ROWS,), 7), 17)
    assert indices[0].unique().numel() == ROWS
