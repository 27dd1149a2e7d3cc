"""Half precision, on the CPU as far as it has it: every model, the loop with a scaled loss, and the maps."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision

from seglab.config.parts import build_data, build_model, build_task
from seglab.losses import CrossEntropy
from seglab.machine.precision import autocast
from seglab.maps.scoring import predict
from seglab.models.unet import UNet
from seglab.predict.predict import in_precision
from seglab.training.fit import EXPLAINED_WARNINGS
from seglab.training.gauges import Gauges
from tests.test_conf import choices, composed
from tests.test_rewrites import batch
from tests.test_train import assert_score_is_that_of_the_maps, only_run

NAMES = ["16-mixed", "bf16-mixed"]


@pytest.mark.parametrize("precision", NAMES)
@pytest.mark.parametrize("model", choices("model"))
def test_every_model_learns_in_half_precision(model: str, precision: str) -> None:
    small = ["model.min_kernel_num=4"] if model == "unet" else []
    net = build_model(composed(f"model={model}", *small)).train()
    image, target = batch(2, 32)
    with autocast(precision, "cpu"):
        logits = net(image)
    assert logits.dtype == (torch.half if precision == "16-mixed" else torch.bfloat16)
    CrossEntropy()(logits, target).backward()
    for name, p in net.named_parameters():
        assert p.grad is not None and p.grad.dtype == torch.float32 and p.grad.isfinite().all(), name
    assert all(value.isfinite().all() for value in net.state_dict().values())


def fitted(images: Path, precision: str, optimizer: str, monkeypatch: pytest.MonkeyPatch) -> tuple[dict, dict]:
    """Weights and gauges after two epochs in Lightning's own loop, its choice of precision aside."""
    monkeypatch.setenv("SEGLAB_CACHE", str(images.parent / "cache"))
    config = composed(
        *("model=unet", "model.min_kernel_num=4", "model.depth=2", "data=folder", f"data.root={images}"),
        *("data.batch_size=4", optimizer),
    )
    gauges = Gauges()
    plugin = MixedPrecision("16-mixed", "cpu") if precision == "16-mixed" else None
    task = build_task(config)
    with warnings.catch_warnings():
        for message in EXPLAINED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        trainer = pl.Trainer(
            **{"accelerator": "cpu", "max_epochs": 2, "plugins": plugin, "callbacks": [gauges], "logger": False},
            **{"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False},
            **{"num_sanity_val_steps": 0, "use_distributed_sampler": False},
        )
        trainer.fit(task, datamodule=build_data(config))
    assert isinstance(trainer.precision_plugin, MixedPrecision) == (precision == "16-mixed")
    return task.state_dict(), gauges.means()


@pytest.mark.parametrize("optimizer", ["optimizer.fused=true", "optimizer.fused=false"])
def test_a_scaled_loss_changes_neither_weights_nor_norms(images: Path, optimizer: str, monkeypatch) -> None:
    plain, norms = fitted(images, "32", optimizer, monkeypatch)
    half, norms_of_half = fitted(images, "16-mixed", optimizer, monkeypatch)
    for name, norm in norms.items():
        assert norms_of_half[name] == pytest.approx(norm, rel=0.05), name
    assert all(torch.allclose(half[k], v.to(half[k].dtype), atol=0.02) for k, v in plain.items())
    assert any(not torch.equal(half[k], v) for k, v in plain.items())


def test_half_precision_on_a_cpu_is_refused_in_one_line(train) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    for trainer in ("auto", "cpu"):
        message, said = train("precision=16-mixed", f"trainer={trainer}", "epochs=1")
        assert message == "train.py: precision=16-mixed: this is a CPU, where accepted are auto, 32, bf16-mixed"
        assert "epoch" not in said


def test_maps_are_made_in_the_precision_of_the_score(train, images: Path, tmp_path: Path) -> None:
    assert train("precision=bf16-mixed", "epochs=2")[0] == ""
    run = only_run(tmp_path / "default")
    assert_score_is_that_of_the_maps(run, images)


@pytest.mark.parametrize("precision", ["32", *NAMES])
def test_a_loaded_network_computes_as_validation_does(precision: str) -> None:
    torch.manual_seed(0)
    net = UNet(4, min_kernel_num=4, depth=2).eval()
    image = np.random.default_rng(0).integers(0, 256, (40, 24, 3)).astype(np.uint8)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    with torch.no_grad(), autocast(precision, "cpu"):
        want = net(pixels)
    at_once = predict(net, image, "cpu", precision)
    with torch.no_grad():
        full = net(pixels)
        got = in_precision(net, precision)(pixels)
    assert got.dtype == torch.float32 and torch.equal(got, want.float())
    assert torch.equal(got, full) == (precision == "32")
    assert (predict(net, image) == at_once).all() and (at_once == want[0].float().argmax(0).numpy()).all()
