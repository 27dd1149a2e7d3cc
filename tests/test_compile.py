"""A compiled training: one graph for each shape, the weights' own names, and the same again when it goes on."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from seglab.build import build_model
from seglab.models.network import Network
from seglab.predict import load_network
from seglab.runs import runs_of
from tests.test_conf import choices, composed
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
    settings = ["compile=true", "data.batch_size=3"]
    assert train("epochs=3", f"output_dir={tmp_path}/once", *settings)[0] == ""
    assert graphs.count == 2  # of batches of 3 and the last of 2: not one more for any step, epoch or validation
    for epochs in (1, 3):
        assert train(f"epochs={epochs}", f"output_dir={tmp_path}/twice", *settings)[0] == ""
    assert graphs.count == 6
    (once,) = cells(tmp_path / "once" / "default").values()
    assert_same_cell(cells(tmp_path / "twice" / "default")[once.folder.name], once)
    assert_score_is_that_of_the_maps(once, images)
    names = {f"net.{name}" for name in build_model(once.config()).state_dict()}
    assert set(content(once, once.last_checkpoint)["state_dict"]) == names
    assert load_network(once).training is False and graphs.count == 6
    assert train("epochs=3", f"output_dir={tmp_path}/once", "data.batch_size=3")[0] == ""
    assert len({run.results()["identity"] for run in runs_of(tmp_path / "once" / "default")}) == 2


@pytest.mark.parametrize("model", choices("model"))
def test_every_model_is_one_graph_whatever_the_momentum(model: str, graphs: Graphs) -> None:
    frozen = model != "unet"
    small = ["model.freeze_encoder_epochs=1"] if frozen else ["model.min_kernel_num=4", "model.depth=2"]
    net = build_model(composed(f"model={model}", *small)).train()
    compiled = torch.compile(net.forward, dynamic=False)
    image = 255 * torch.rand(2, 3, 32, 32)
    for epoch in range(2):
        net.start_epoch(epoch)
        for step in range(12):
            net.start_batch(step)
            if step in (0, 1, 11):
                compiled(image)
    assert graphs.count == 1 + frozen


def small_network() -> Network:
    """A net of the layers that have code of their own."""
    torch.manual_seed(0)
    depthwise = nn.Conv2d(4, 4, 3, padding=6, dilation=6, groups=4, bias=False)
    body = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU6(inplace=True), depthwise, nn.BatchNorm2d(4)]
    from seglab.models.rewrites import rewritten

    net = nn.Sequential()
    for name, part in (
        ("encoder", nn.Sequential(*body)),
        ("decoder", nn.ReLU()),
        ("segmentation_head", nn.Conv2d(4, 2, 1)),
    ):
        net.add_module(name, part)
    return Network(rewritten(net), divisor=2)


def test_compiled_code_is_the_same_network() -> None:
    torch.compiler.reset()
    ours, plain = small_network(), small_network()
    compiled = torch.compile(ours.forward, dynamic=False)
    generator = torch.Generator().manual_seed(1)
    for step in range(3):
        image = 255 * torch.rand(2, 3, 16, 16, generator=generator)
        results = []
        for net, forward in ((ours, compiled), (plain, plain)):
            net.start_batch(step)
            net.zero_grad()
            logits = forward(image)
            (logits * logits.detach().cos()).sum().backward()
            results.append((logits, [p.grad for p in net.parameters()], net.state_dict()))
        torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)
    assert results[0][2]["net.encoder.1.num_batches_tracked"] == 3


def test_no_compiler_is_one_line_before_anything_trains(train, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    message, said = train("-m", "compile=true", "epochs=1,2")
    wanted = "compile=true needs a C++ compiler (no-such-compiler); install one or leave compile=false"
    assert message == f"train.py: {wanted}" and "epoch 1" not in said
    assert not list(runs_of(tmp_path / "default"))


def test_no_headers_is_one_line(train, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    assert train("compile=true")[0].startswith(f"train.py: compile=true needs Python's headers ({tmp_path}); ")
