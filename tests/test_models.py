"""Every conf/model/*.yaml keeps the model contract."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from seglab.models import Network, parameter_table

CONFIGS = {p.stem: p for p in sorted((Path(__file__).parent.parent / "conf/model").glob("*.yaml"))}
FREEZABLE = [name for name, path in CONFIGS.items() if "freeze_encoder_epochs" in OmegaConf.load(path)]
SMALL = {"min_kernel_num": 4, "depth": 2}  # where a model has these keys: the contract is the same, the test faster
every_model = pytest.mark.parametrize("name", CONFIGS)
every_freezable_model = pytest.mark.parametrize("name", FREEZABLE)
assert_same = partial(torch.testing.assert_close, rtol=0, atol=0)


def make(name: str, num_classes: int = 4, **overrides: Any) -> Network:
    """The network of conf/model/<name>.yaml with repeatable random weights, shrunk where it can be."""
    config = OmegaConf.load(CONFIGS[name])
    torch.manual_seed(0)
    return instantiate(config, num_classes=num_classes, **{k: v for k, v in SMALL.items() if k in config} | overrides)


def images(*shape: int) -> Tensor:
    """Repeatable noise in 0..255."""
    return 255 * torch.rand(shape, generator=torch.Generator().manual_seed(0))


def training_step(model: Network, batch: Tensor) -> None:
    """One step of gradient descent towards noise."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.start_batch(9)
    logits = model(batch)
    F.cross_entropy(logits, torch.randint(logits.shape[1], batch[:, 0].shape)).backward()
    optimizer.step()


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


@every_model
@pytest.mark.parametrize("num_classes", [2, 4, 7])
def test_logits_have_the_size_of_the_image_whatever_the_batch(name: str, num_classes: int) -> None:
    model = make(name, num_classes)
    for training in (True, False):
        model.train(training)
        for height, width in ((1, 1), (17, 33), (16, 64), (224, 5)):
            logits = model(images(1, 3, height, width))
            assert logits.shape == (1, num_classes, height, width) and logits.isfinite().all()
            assert (logits.sum(1) - 1).abs().max() > 1e-3, "softmax inside"
    batch = images(3, 3, 40, 64)
    torch.testing.assert_close(model(batch)[1:2], model(batch[1:2]), rtol=1e-4, atol=1e-5)


@every_model
def test_normalised_inside_padded_with_the_border_cropped_back(name: str) -> None:
    model = make(name).eval()
    fed = []
    model.net.register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0]))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]))
    model(mean.expand(1, 3, 64, 64))
    torch.testing.assert_close(fed[0], torch.zeros(1, 3, 64, 64), rtol=0, atol=1e-6)
    logits = model(image := images(1, 3, 37, 70))
    padded = F.pad((image - mean) / std, (0, -70 % model.divisor, 0, -37 % model.divisor), mode="replicate")
    torch.testing.assert_close(fed[1], padded)
    assert_same(logits, model.net(fed[1])[:, :, :37, :70])


PLAIN = {"deeplabv3plus": smp.DeepLabV3Plus, "unet_mobilenetv2": smp.Unet}


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("size", [(32, 96), (64, 32), (32, 32)])
def test_small_images_have_the_logits_of_smp(name: str, size: tuple[int, int]) -> None:
    model = make(name)
    training_step(model, images(2, 3, 64, 64))  # away from the initial running statistics
    plain = PLAIN[name]("mobilenet_v2", encoder_weights=None, classes=4)
    plain.load_state_dict(model.net.state_dict())
    batch = images(1, 3, *size)
    normalised = batch * model.scale + model.shift
    torch.testing.assert_close(model.eval()(batch), plain.eval()(normalised), rtol=1e-4, atol=1e-4)


@every_model
@pytest.mark.parametrize(
    ("training", "shape", "fed"),
    [
        (True, (1, 1), (2, 2)),  # one value for each channel: BatchNorm cannot train
        (True, (1, 2), (2, 2)),
        (True, (3, 1), (3, 2)),
        *((True, shape, shape) for shape in [(1, 4), (2, 2)]),
        *((False, shape, shape) for shape in [(1, 1), (1, 3)]),
    ],
)
def test_only_a_training_on_few_values_is_padded_beyond_the_size_of_its_images(
    name: str, training: bool, shape: tuple[int, int], fed: tuple[int, int]
) -> None:
    model = make(name).train(training)
    sizes = []
    model.net.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[2:]))
    model(images(1, 3, *(model.divisor * side - 1 for side in shape)))
    model(images(4, 3, *(model.divisor * side - 1 for side in shape)))
    assert sizes == [torch.Size(model.divisor * side for side in sides) for sides in (fed, shape)]


@every_model
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_gradients_of_small_images_do_not_explode(name: str, batch_size: int) -> None:
    """Without padding two images of one pixel in the deepest map have gradients of 5e7 and 2e17."""
    model = make(name).train()
    training_step(model, images(batch_size, 3, model.divisor, model.divisor))
    assert max(p.grad.abs().max().item() for p in model.parameters()) < 1e6


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize(("name", "other"), [*((n, {}) for n in CONFIGS), ("unet", {"batch_norm": False, "depth": 4})])
def test_every_parameter_gets_a_gradient(name: str, other: dict[str, Any], batch_size: int) -> None:
    model = make(name, **other).train()
    training_step(model, images(batch_size, 3, 64, 64))
    for parameter_name, parameter in model.named_parameters():
        grad = parameter.grad
        assert grad is not None and grad.isfinite().all() and grad.any(), parameter_name


@every_model
def test_state_dict_holds_only_what_is_learnt_comes_back_and_is_counted(name: str) -> None:
    model = make(name)
    other = make(name)
    batch = images(2, 3, 64, 64)
    training_step(model, batch)
    state = copied(model)
    statistics = state.keys() - dict(model.named_parameters()).keys()
    assert all(k.endswith(("running_mean", "running_var", "num_batches_tracked")) for k in statistics)
    assert all(k.startswith(("net.encoder.", "net.decoder.", "net.segmentation_head.")) for k in state)
    assert not torch.equal(other.eval()(batch), model.eval()(batch))
    other.load_state_dict(state)
    assert_same(other(batch), model(batch))
    table = parameter_table(model)
    assert list(table) == ["encoder", "decoder", "head"] and min(table.values()) > 0
    assert sum(table.values()) == sum(p.numel() for p in model.parameters())


@every_freezable_model
def test_frozen_encoder_stands_still_then_learns(name: str) -> None:
    model = make(name, freeze_encoder_epochs=2)
    batch = images(2, 3, 64, 64)
    assert not any(p.requires_grad for p in model.encoder.parameters()), "frozen before the first epoch too"
    for epoch, frozen in enumerate([True, True, False, False]):
        model.train().start_epoch(epoch)
        assert all(module.training is not frozen for module in model.encoder.modules())
        model.eval().train()  # a validation in between
        encoder = copied(model.encoder)
        model_before = copied(model)
        training_step(model, batch)
        assert changed(model.encoder, encoder) == (set() if frozen else set(encoder))
        assert {"decoder", "segmentation_head"} <= {key.split(".")[1] for key in changed(model, model_before)}


@pytest.mark.parametrize("batch_norm", [True, False])
def test_unet_is_the_original_size_and_he_initialised(batch_norm: bool) -> None:
    model = make("unet", batch_norm=batch_norm, min_kernel_num=64, depth=4)
    learnt = [p.numel() for p in model.parameters()]
    assert sum(learnt) == 31_037_828 if batch_norm else len(learnt) == 2 * (2 * 5 + 3 * 4 + 1)  # a bias for each weight
    for m in model.modules():
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
            fan_in = m.in_channels * (9 if m.kernel_size == (3, 3) else 1)
            assert m.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.15)


def test_deeplabv3plus_is_interchangeable_with_smp() -> None:
    model = make("deeplabv3plus")
    batch = images(2, 3, 64, 96)
    training_step(model, batch)  # away from the initial running statistics
    plain = smp.DeepLabV3Plus("mobilenet_v2", encoder_weights=None, classes=4)
    plain.load_state_dict(model.net.state_dict(), strict=True)
    normalised = batch * model.scale + model.shift
    torch.testing.assert_close(plain.eval()(normalised), model.eval()(batch))  # dilated layers sum in another order
    other = make("deeplabv3plus")
    other.net.load_state_dict(plain.state_dict(), strict=True)
    assert_same(other.eval()(batch), model(batch))


def test_pooling_of_one_training_image_uses_running_statistics_of_two_its_own() -> None:
    model = make("deeplabv3plus").train()
    features = torch.rand(2, 1280, 2, 2)
    pooling = model.get_submodule("net.decoder.aspp.0.convs.4")
    pooling(features)
    statistics = copied(pooling)
    assert_same(pooling(features[:1]), pooling.eval()(features[:1]))
    assert changed(pooling, statistics) == set()
    assert not torch.equal(pooling.train()(features), pooling.eval()(features))


WRONG_ARGUMENTS = [
    *((name, {"num_classes": 1}, "num_classes=1: accepted are whole numbers from 2") for name in CONFIGS),
    *((name, {"freeze_encoder_epochs": -1}, "freeze_encoder_epochs=-1: accepted are .* 0") for name in FREEZABLE),
    *(("unet", {key: 0}, f"{key}=0: accepted are whole numbers from 1") for key in SMALL),
    ("deeplabv3plus", {"decoder_channels": 0}, "decoder_channels=0: accepted are whole numbers from 1"),
    ("deeplabv3plus", {"atrous_rates": [6, 12]}, r"atrous_rates=\[6, 12\]: accepted are three whole numbers from 1"),
    ("deeplabv3plus", {"atrous_rates": [0, 6, 12]}, r"atrous_rates=\[0, 6, 12\]: accepted are three"),
    *(
        (name, {"weights": "imagenet"}, r"weights='imagenet': accepted is a file \(.pth, .pt, .ckpt")
        for name in CONFIGS
    ),
    ("deeplabv3plus", {"encoder_weights": "imagnet"}, r"'imagnet': accepted are null \(random\), imagenet, or the"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), WRONG_ARGUMENTS)
def test_wrong_arguments_are_named(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message) as caught:  # Hydra wraps what a constructor raises
        make(name, **arguments)
    assert isinstance(caught.value.__cause__, ValueError)
