"""The task: what a step changes, and that a map is what was scored."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from seglab.maps.scoring import class_map, predict
from seglab.models.unet import UNet
from seglab.task.finite import AT_MOST, LossWatch, NotFinite


def net() -> UNet:
    torch.manual_seed(0)
    return UNet(4, min_kernel_num=4, depth=2)


def test_running_statistics_are_the_mean_over_the_epochs_batches() -> None:
    model = net()
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    inputs: list[torch.Tensor] = []
    norm.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach()))
    generator = torch.Generator().manual_seed(0)
    for epoch in range(2):
        inputs.clear()
        for index in range(4):
            model.start_batch(index)
            model(255 * torch.rand(2, 3, 16, 16, generator=generator) + 50 * epoch)
        means = torch.stack([x.mean((0, 2, 3)) for x in inputs])
        variances = torch.stack([x.var((0, 2, 3)) for x in inputs])
        assert torch.allclose(norm.running_mean, means.mean(0), atol=1e-5)
        assert torch.allclose(norm.running_var, variances.mean(0), rtol=1e-4)


def test_a_long_epoch_forgets_its_first_batches() -> None:
    model = net()
    model.start_batch(500)
    assert {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (40, 24)])
def test_a_map_of_any_size_leaves_the_network_as_it_was(size: tuple[int, int]) -> None:
    model = net().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    got = predict(model, image)
    assert got.shape == size and got.dtype == np.uint8 and model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    logits = model.eval()(torch.from_numpy(image).permute(2, 0, 1)[None].float())
    assert (got == logits[0].argmax(0).numpy()).all()


def test_class_map_is_argmax_in_both_layouts() -> None:
    logits = torch.randn(2, 5, 7, 9, generator=torch.Generator().manual_seed(0))
    for layout in (torch.contiguous_format, torch.channels_last):
        assert torch.equal(class_map(logits.contiguous(memory_format=layout)), logits.argmax(1))


class Elsewhere(torch.Tensor):
    """A number that says it lies on a GPU."""

    device = torch.device("cuda:0")  # type: ignore[assignment]


@pytest.mark.parametrize("wrong", [0, AT_MOST - 1, AT_MOST, 2 * AT_MOST + 3])
def test_a_gpu_is_asked_for_many_losses_at_once_and_answers_while_it_goes_on(wrong: int, monkeypatch) -> None:
    watch = LossWatch()
    questions: list[int] = []
    ask = watch._ask
    monkeypatch.setattr(watch, "_ask", lambda: (questions.append(added), ask()))
    seen = None
    for added in range(1, 4 * AT_MOST + 1):
        loss = torch.tensor(float("nan") if added == wrong + 1 else 1.0).as_subclass(Elsewhere)
        try:
            watch.add(loss, f"step {added}: {{}}".format)
        except NotFinite as e:
            seen = added, str(e)
            break
    first = (wrong // AT_MOST + 1) * AT_MOST  # when its question is asked
    assert seen == (first + AT_MOST, f"step {wrong + 1}: nan")
    assert questions == [AT_MOST * n for n in range(1, len(questions) + 1)]


def test_a_look_reads_every_loss_of_a_gpu() -> None:
    watch = LossWatch()
    for value in (1.0,) * AT_MOST + (float("inf"),):
        watch.add(torch.tensor(value).as_subclass(Elsewhere), "it is {}".format)
    strategy: Any = None
    with pytest.raises(NotFinite, match="it is inf"):
        watch.look(strategy)
