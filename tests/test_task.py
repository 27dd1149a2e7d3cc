"""The task: what a step changes, and that a map is what was scored."""

import numpy as np
import pytest
import torch
from torch import nn

from seglab.maps.scoring import class_map, predict
from seglab.models.unet import UNet


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
