"""Half precision, on the CPU as far as it has it: every model, the loop with a scaled loss, and the maps."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision

from seglab.config.compose import config_of
from seglab.config.identity import identity
from seglab.config.parts import build_data, build_model, build_task
from seglab.losses import CrossEntropy
from seglab.machine.environment import computing_device
from seglab.machine.precision import autocast, resolved_precision
from seglab.maps.scoring import predict
from seglab.models.unet import UNet
from seglab.predict.predict import in_precision
from seglab.task.finite import LEAST_SCALE
from seglab.training import cell
from seglab.training import fit as fitting
from seglab.training.fit import EXPLAINED_WARNINGS
from seglab.training.gauges import Gauges
from tests.test_conf import choices, composed
from tests.test_resume import assert_same_cell, content, failing_after_step, same
from tests.test_rewrites import batch
from tests.test_train import assert_score_is_that_of_the_maps, only_run

NAMES = ["16-mixed", "bf16-mixed"]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """`machine(capabilities of the CPU, GPU, ...)`: torch sees these."""

    def see(cpu: set[str], gpu: tuple[str, tuple[int, int]] | None = None, **more: bool) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(cpu, True))
        monkeypatch.setattr(torch.backends.mkldnn, "is_acl_available", lambda: more.get("acl", False))
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: more.get("mps", False))
        monkeypatch.setattr(torch.version, "hip", "7.1" if more.get("hip") else None)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
        if gpu:
            monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: gpu[0])
            monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: gpu[1])

    return see


PLAIN = {"avx2", "avx512_f", "avx512_fp16"}


@pytest.mark.parametrize(
    ("cpu", "more", "precision"),
    [
        (PLAIN, {}, "32"),
        (PLAIN | {"amx_tile", "amx_int8"}, {}, "32"),
        (PLAIN | {"avx512_bf16", "amx_bf16"}, {}, "bf16-mixed"),
        (PLAIN | {"avx512_bf16"}, {}, "bf16-mixed"),
        ({"neon", "bf16"}, {"acl": True}, "bf16-mixed"),
        ({"neon", "sve", "sve_bf16"}, {"acl": True}, "bf16-mixed"),
        ({"neon", "bf16"}, {}, "32"),
        ({"neon", "sve"}, {"acl": True}, "32"),
        ({"neon", "bf16"}, {"acl": True, "mps": True}, "32"),
    ],
)
def test_auto_by_what_a_cpu_multiplies(machine, cpu: set[str], more: dict[str, bool], precision: str) -> None:
    machine(cpu, **more)
    assert resolved_precision("auto") == precision
    assert [resolved_precision(asked) for asked in ("32", 32, *NAMES)] == ["32", "32", *NAMES]


def test_another_precision_is_another_run(machine) -> None:
    config = config_of(composed("trainer=cpu"))
    keys = []
    for cpu in (PLAIN, PLAIN | {"avx512_bf16"}, PLAIN | {"amx_bf16"}):
        machine(cpu)
        keys.append(identity(config, "").key)
    assert keys[0] != keys[1] == keys[2]


@pytest.mark.parametrize(
    ("gpu", "precision"),
    [
        (("NVIDIA H100 80GB HBM3", (9, 0)), "bf16-mixed"),
        (("NVIDIA A100-SXM4-40GB", (8, 0)), "bf16-mixed"),
        (("NVIDIA GeForce RTX 3060", (8, 6)), "bf16-mixed"),
        (("Tesla T4", (7, 5)), "16-mixed"),
        (("Tesla V100-SXM2-16GB", (7, 0)), "16-mixed"),
        (("NVIDIA GeForce GTX 1660 Ti", (7, 5)), "32"),
        (("Tesla P100-PCIE-16GB", (6, 0)), "32"),
        (("NVIDIA GeForce GTX 1080", (6, 1)), "32"),
    ],
)
def test_auto_by_what_a_gpu_multiplies(machine, gpu: tuple[str, tuple[int, int]], precision: str) -> None:
    for cpu, of_cpu in ((PLAIN, "32"), ({"amx_bf16"}, "bf16-mixed")):
        machine(cpu, gpu)
        assert {resolved_precision("auto", asked) for asked in ("auto", "gpu", "cuda")} == {precision}
        assert resolved_precision("auto", "cpu") == of_cpu and computing_device("cpu", 3) == "cpu, 3 threads"
        assert computing_device("auto", 3) == gpu[0]


def test_auto_on_gpus_of_others(machine) -> None:
    machine(PLAIN, ("AMD Instinct MI100", (9, 0)), hip=True)
    assert resolved_precision("auto") == "bf16-mixed"
    machine({"neon", "bf16"}, acl=True, mps=True)
    assert resolved_precision("auto", "mps") == resolved_precision("auto", "gpu") == "32"
    assert resolved_precision("auto", "cpu") == "bf16-mixed"
    assert computing_device("auto", 3) == "mps" and computing_device("cpu", 3) == "cpu, 3 threads"


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


@pytest.fixture
def float16(monkeypatch: pytest.MonkeyPatch):
    """`float16(scale)`: trainings of precision=16-mixed run on the CPU, the loss first scaled by this."""

    def allow(scale: float) -> None:
        original = fitting.build_trainer

        def build(config, *arguments):
            trainer = original(config.but(precision="32"), *arguments)
            scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)
            trainer.strategy.precision_plugin = MixedPrecision("16-mixed", "cpu", scaler)
            return trainer

        monkeypatch.setattr(cell, "check_machine", lambda _: None)
        monkeypatch.setattr(fitting, "build_trainer", build)

    return allow


def test_a_killed_training_in_float16_ends_as_a_calm_one(train, tmp_path: Path, float16) -> None:
    """Its first steps overflow and are left out; later the scale grows: both are in the checkpoint."""
    float16(2.0**30)
    settings = ["precision=16-mixed", "epochs=3", "data.batch_size=1", "checkpoint_every_steps=1"]
    assert train(*settings, f"output_dir={tmp_path}/calm")[0] == ""
    calm = only_run(tmp_path / "calm" / "default")
    with failing_after_step(13):
        assert "killed" in train(*settings, f"output_dir={tmp_path}/killed")[0]
    killed = only_run(tmp_path / "killed" / "default")
    scaler = content(killed, killed.last_checkpoint)["MixedPrecision"]
    assert scaler["scale"] < 2.0**30 and scaler["_growth_tracker"] > 0
    message, said = train(*settings, f"output_dir={tmp_path}/killed")
    assert message == "" and "resumes from epoch 1" in said
    assert_same_cell(killed, calm)
    last = [content(run, run.last_checkpoint)["MixedPrecision"] for run in (killed, calm)]
    assert same(*last) and last[0]["scale"] != scaler["scale"]
    assert calm.metrics()[-1]["gradient/head"] > 0 and calm.metrics()[-1]["val/loss"] < calm.metrics()[0]["val/loss"]


def test_gradients_that_float16_can_not_hold_end_a_training(train, tmp_path: Path, float16, monkeypatch) -> None:
    float16(LEAST_SCALE)
    monkeypatch.setattr(CrossEntropy, "forward", lambda _, logits, target: 1e9 * (logits.float() * target).sum())
    message, _ = train("precision=16-mixed", "epochs=2")
    assert message.startswith("diverged: NotFinite: the gradients are not finite in float16: the loss is scaled by 0.0")
    assert message.endswith("accepted are also precision=32 and bf16-mixed")
    assert not only_run(tmp_path / "default").last_checkpoint.exists()


def test_a_loss_that_float16_can_not_hold_says_so(train, float16) -> None:
    float16(1.0)
    message, _ = train("precision=16-mixed", "optimizer.lr=1e5", "model.batch_norm=false", "epochs=2")
    assert message.startswith("diverged: NotFinite: the ") and message.endswith("precision=32 do not")


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
