"""The network that makes maps is the trained one: the same logits, whatever stands between its layers."""

import copy

import pytest
import torch
from torch import nn

from seglab.config.parts import build_model
from seglab.models.inference import for_inference, layers_in_order
from seglab.models.network import Network
from tests.benchmarks.config import composed


def trained(name: str, *overrides: str) -> Network:
    """A network whose batch norms have seen two batches."""
    net = build_model(composed(f"model={name}", *overrides))
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        net(255 * torch.rand(2, 3, 64, 64, generator=generator))
    return net.double()


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("deeplabv3plus", []),
        ("unet", ["model.min_kernel_num=4", "model.depth=2"]),
        ("unet", ["model.min_kernel_num=4", "model.depth=2", "model.batch_norm=false"]),
        ("unet_mobilenetv2", []),
    ],
)
@pytest.mark.parametrize("size", [(64, 64), (70, 45)])
def test_the_logits_are_those_of_the_trained_network(name: str, overrides: list[str], size: tuple[int, int]):
    net = trained(name, *overrides)
    state = copy.deepcopy(net.state_dict())
    image = 255 * torch.rand(1, 3, *size, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    ready = for_inference(net)
    assert net.training and not ready.training
    with torch.no_grad():
        torch.testing.assert_close(ready(image), net.eval()(image), rtol=1e-9, atol=1e-9)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    shared = for_inference(net, own=False).state_dict()
    assert all(torch.equal(value, shared[key]) for key, value in ready.state_dict().items())
    left, before = (sum(isinstance(m, nn.BatchNorm2d) for m in n.modules()) for n in (ready, net))
    assert (before > 0) == ("model.batch_norm=false" not in overrides)
    assert left == (name == "deeplabv3plus"), "its pooling branch is no plain Sequential; all others are folded"


def test_only_what_a_sequential_calls_in_a_row_is_folded():
    class Apart(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x):
            return self.conv(self.norm(x))

    net = nn.Sequential(Apart(), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3))
    for p in net.parameters():
        nn.init.uniform_(p)
    net(torch.randn(4, 3, 5, 5))
    image = torch.randn(2, 3, 5, 5)
    assert len(list(layers_in_order(net))) == 4
    torch.testing.assert_close(for_inference(net)(image), net.eval()(image))
