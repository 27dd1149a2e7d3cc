"""Gauges: norms and statistics against what the network really did, and over an epoch that was cut."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from seglab.config.parts import build_model
from seglab.models.unet import UNet
from seglab.run.folder import Run, runs_of
from seglab.training.gauges import Gauges, batch_norm_gap, statistics
from tests.conftest import ROOT


def only_run(study: Path) -> Run:
    (run,) = runs_of(study)
    return run


def started(net: nn.Module) -> tuple[Gauges, Any]:
    gauges, task = Gauges(), SimpleNamespace(net=net, device=torch.device("cpu"))
    gauges.on_train_start(None, task)  # type: ignore[arg-type]
    return gauges, task


def step(gauges: Gauges, task: Any, gradient: float) -> None:
    for p in task.net.parameters():
        p.grad = torch.full_like(p, gradient) if p.requires_grad else None
    trainer: Any = SimpleNamespace(precision_plugin=None)
    gauges.on_before_optimizer_step(trainer, task, None)  # type: ignore[arg-type]


def test_the_mean_norm_of_each_stage_by_hand() -> None:
    net = UNet(4, min_kernel_num=4, depth=2)
    gauges, task = started(net)
    step(gauges, task, 1.0)
    step(gauges, task, 3.0)
    means = gauges.means()
    for stage, parameters in net.stages().items():
        assert means[f"gradient/{stage}"] == pytest.approx(2 * math.sqrt(sum(p.numel() for p in parameters)), rel=1e-6)


def test_a_step_that_overflows_is_not_taken_and_does_not_count() -> None:
    gauges, task = started(UNet(4, min_kernel_num=4, depth=2))
    step(gauges, task, 1.0)
    once = gauges.means()
    step(gauges, task, float("inf"))
    step(gauges, task, float("nan"))
    assert gauges.means() == pytest.approx(once, nan_ok=True)


def test_a_frozen_encoder_has_no_norm() -> None:
    net = UNet(4, min_kernel_num=4, depth=2)
    net.encoder.requires_grad_(False)
    gauges, task = started(net)
    step(gauges, task, 1.0)
    means = gauges.means()
    assert math.isnan(means["gradient/encoder"]) and math.isnan(means["gradient/bottleneck"])
    assert means["gradient/decoder"] > 0 and means["gradient/head"] > 0


def test_the_state_of_half_an_epoch_goes_on() -> None:
    net = UNet(4, min_kernel_num=4, depth=2)
    (whole, task), (first, _) = started(net), started(net)
    for gradient in (0.1, 0.2, 0.3):
        step(whole, task, gradient)
    for gradient in (0.1, 0.2):
        step(first, task, gradient)
    second = Gauges()
    second.load_state_dict(first.state_dict())
    second.on_train_start(None, task)  # type: ignore[arg-type]
    step(second, task, 0.3)
    assert {k: v for k, v in second.means().items() if v == v} == {k: v for k, v in whole.means().items() if v == v}


@pytest.mark.parametrize("momentum", [0.1, 0.5, 1.0])
def test_the_gap_is_that_of_the_batch(momentum: float) -> None:
    generator = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm2d(3, momentum=momentum)
    norm.running_mean, norm.running_var = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 1.0, 0.25])
    batch = torch.randn(2, 3, 8, 8, generator=generator)
    before = [statistics(norm)]
    norm(batch)
    mean, var, running = batch.mean((0, 2, 3)), batch.var((0, 2, 3)), norm.running_var + norm.eps
    want = (mean - norm.running_mean).abs() / running.sqrt() + ((var + norm.eps) / running).log().abs() / 2
    assert float(batch_norm_gap(before)) == pytest.approx(float(want.mean()), abs=1e-4)
    assert (float(want.mean()) < 1e-5) == (momentum == 1)


@pytest.mark.parametrize("model", sorted(p.stem for p in (ROOT / "conf" / "model").glob("*.yaml")))
def test_every_parameter_is_in_one_stage(model: str) -> None:
    from tests.test_conf import composed

    with torch.device("meta"):
        net = build_model(composed(f"model={model}"))
    stages = net.stages()
    assert list(stages) == ["encoder", "bottleneck", "decoder", "head"]
    found = [id(p) for parameters in stages.values() for p in parameters]
    assert len(found) == len(set(found)) and set(found) == {id(p) for p in net.parameters()}
    assert all(stages.values())


def test_a_run_keeps_them_and_an_epoch_cut_in_two_gives_the_same(train, tmp_path: Path, monkeypatch) -> None:
    from seglab.training.recorder import Recorder

    settings = ["epochs=2", "data.batch_size=2", "checkpoint_every_steps=1", "model.batch_norm=true"]
    assert train(*settings, f"output_dir={tmp_path}/once")[0] == ""
    once = only_run(tmp_path / "once" / "default")
    for row in once.metrics():
        assert all(row[f"gradient/{stage}"] > 0 for stage in ("encoder", "bottleneck", "decoder", "head"))
        assert 0 < row["batch_norm_gap"] < 10
    original = Recorder.on_train_batch_end

    def killed(self, trainer, task, *rest) -> None:
        original(self, trainer, task, *rest)
        if trainer.global_step == 6:
            raise RuntimeError("killed")

    monkeypatch.setattr(Recorder, "on_train_batch_end", killed)
    assert "killed" in train(*settings, f"output_dir={tmp_path}/twice")[0]
    monkeypatch.setattr(Recorder, "on_train_batch_end", original)
    assert train(*settings, f"output_dir={tmp_path}/twice")[0] == ""
    assert only_run(tmp_path / "twice" / "default").metrics_file.read_bytes() == once.metrics_file.read_bytes()


def test_a_step_without_gradients_has_no_norm() -> None:
    gauges = Gauges()
    gauges._stages = {"head": [nn.Parameter(torch.ones(2))]}
    optimizer = torch.optim.SGD(gauges._stages["head"])
    trainer: Any = SimpleNamespace(precision_plugin=None)
    gauges.on_before_optimizer_step(trainer, SimpleNamespace(), optimizer)  # type: ignore[arg-type]
    assert math.isnan(gauges.means()["gradient/head"])
