"""A compiled training: one graph for each shape, the weights' own names, and the same again when it goes on."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from seglab.config.compose import config_of
from seglab.config.identity import identity
from seglab.config.parts import build_model
from seglab.models.network import Network
from seglab.models.rewrites import rewritten
from seglab.models.unet import UNet
from seglab.run.folder import runs_of
from tests.test_conf import composed
from tests.test_resume import assert_same_cell, cells, content
from tests.test_train import assert_score_is_that_of_the_maps


class Graphs:
    """A backend that runs graphs as they are and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Callable:
        self.count += 1
        return graph.forward


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Graphs:
    """Lets torch.compile trace for real, without the minutes of a C++ compiler; a part that can't be traced fails."""
    backend = Graphs()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend, fullgraph=True))
    torch.compiler.reset()
    return backend


def test_a_compiled_run_goes_on_exactly_and_is_read_by_everything(train, images: Path, tmp_path: Path, graphs) -> None:
    settings = ["compile=true", "data.batch_size=3", "model.depth=1"]
    assert train("epochs=2", f"output_dir={tmp_path}/once", *settings)[0] == ""
    assert graphs.count == 2  # of batches of 3 and the last of 2: not one more for any step, epoch or validation
    for epochs in (1, 2):
        assert train(f"epochs={epochs}", f"output_dir={tmp_path}/twice", *settings)[0] == ""
    assert graphs.count == 6
    (once,) = cells(tmp_path / "once" / "default").values()
    assert_same_cell(cells(tmp_path / "twice" / "default")[once.folder.name], once)
    assert_score_is_that_of_the_maps(once, images)
    names = {f"net.{name}" for name in build_model(once.config()).state_dict()}
    assert set(content(once, once.last_checkpoint)["state_dict"]) == names
    assert graphs.count == 6  # nothing that reads a run compiles it
    config = once.config()
    assert identity(config_of(config), "x").key != identity(config_of(config | {"compile": False}), "x").key


def captured(net: Network, graphs: Graphs) -> int:
    """The graphs that training makes of `net`: in its first and second epoch, in steps of different momentum."""
    compiled = torch.compile(net.train().forward, dynamic=False)
    image = 255 * torch.rand(2, 3, 32, 32)
    for epoch in range(2):
        net.start_epoch(epoch)
        for step in (0, 1, 11):
            net.start_batch(step)
            compiled(image)
    return graphs.count


@pytest.mark.parametrize("model", ["deeplabv3plus", "unet"])
def test_a_model_is_one_graph_whatever_the_momentum(model: str, graphs: Graphs) -> None:
    """`unet_mobilenetv2` is left out for its time: the encoder is DeepLabV3+'s, the rest plain layers of torch."""
    small = ["model.min_kernel_num=4", "model.depth=1"] if model == "unet" else []
    assert captured(build_model(composed(f"model={model}", *small)), graphs) == 1


def test_a_frozen_encoder_is_another_graph(graphs: Graphs) -> None:
    net = UNet(4, min_kernel_num=4, depth=1)
    net.freeze_encoder_epochs = 1
    before = net.state_dict()["net.encoder.levels.0.1.running_mean"].clone()
    assert captured(net, graphs) == 2
    assert not torch.equal(net.state_dict()["net.encoder.levels.0.1.running_mean"], before)


def small_network() -> Network:
    """A net of two layers that have code of their own."""
    net = nn.Sequential()
    for name, part in {"encoder": nn.BatchNorm2d(3), "decoder": nn.ReLU6(inplace=True)}.items():
        net.add_module(name, part)
    net.add_module("segmentation_head", nn.Identity())
    return Network(rewritten(net), divisor=2)


def test_compiled_code_is_the_same_network() -> None:
    torch.compiler.reset()
    ours, plain = small_network(), small_network()
    compiled = torch.compile(ours.forward, dynamic=False, options={"cpp.simdlen": 1})  # no search for vector units
    generator = torch.Generator().manual_seed(1)
    for step in range(3):
        image = 255 * torch.rand(2, 3, 8, 8, generator=generator)
        results = []
        for net, forward in ((ours, compiled), (plain, plain)):
            net.start_batch(step)
            net.zero_grad()
            logits = forward(image)
            (logits * logits.detach().cos()).sum().backward()
            results.append((logits, [p.grad for p in net.parameters()], net.state_dict()))
        torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)
    assert results[0][2]["net.encoder.num_batches_tracked"] == 3


def test_no_compiler_is_one_line_before_anything_trains(train, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    message, said = train("-m", "compile=true", "epochs=1,2")
    wanted = "compile=true needs a C++ compiler (no-such-compiler); install one or leave compile=false"
    assert message == f"train.py: {wanted}" and "epoch 1" not in said
    assert not list(runs_of(tmp_path / "default"))


def test_no_headers_is_one_line(train, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    assert train("compile=true")[0].startswith(f"train.py: compile=true needs Python's headers ({tmp_path}); ")
