"""The layers that seglab computes its own way: equal to torch's, in every size, layout and precision."""

import copy

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seglab.losses import CrossEntropy
from seglab.machine.precision import resolved_precision
from seglab.models.deeplabv3plus import DeepLabV3Plus
from seglab.models.depthwise import ByConvolution, Depthwise, depthwise
from seglab.models.dilated_depthwise import DilatedDepthwise, dilated_depthwise, interleaved, taps_inside
from seglab.models.rewrites import FASTER, rewritten


def native(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    return F.conv2d(x, weight, None, 1, dilation * (weight.shape[2] // 2), dilation, weight.shape[0])


def relative(got: Tensor, wanted: Tensor) -> float:
    got = got.detach().double()
    wanted = wanted.detach().double()
    return float((got - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(
    ("height", "width", "size", "dilation"),
    [
        *((14, 14, 3, 2), (15, 14, 3, 2), (14, 14, 3, 12), (14, 14, 3, 24), (5, 30, 3, 6), (32, 32, 3, 6)),
        *((9, 7, 5, 2), (1, 1, 3, 2), (36, 36, 3, 12), (7, 40, 5, 9)),
    ],
)
def test_dilated_depthwise_is_the_native_convolution(height: int, width: int, size: int, dilation: int):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, height, width, dtype=torch.double, generator=generator, requires_grad=True)
    weight = torch.randn(6, 1, size, size, dtype=torch.double, generator=generator, requires_grad=True)
    gradient = torch.randn(2, 6, height, width, dtype=torch.double, generator=generator)
    got = dilated_depthwise(x, weight, dilation)
    wanted = native(x, weight, dilation)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
    for mine, theirs in zip(
        torch.autograd.grad(got, (x, weight), gradient), torch.autograd.grad(wanted, (x, weight), gradient), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("height", "dilation"), [(6, 4), (8, 2)])
def test_dilated_depthwise_passes_the_gradient_check(height: int, dilation: int):
    x = torch.randn(2, 3, height, height, dtype=torch.double, requires_grad=True)
    weight = torch.randn(3, 1, 3, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: dilated_depthwise(a, b, dilation), (x, weight))


def test_both_ways_are_taken():
    assert taps_inside(14, 14, 3, 2)[1] > 7 > taps_inside(14, 14, 3, 12)[1]
    assert len(taps_inside(14, 14, 3, 24)[0]) == 1


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("channels", "height", "dilation"), [(320, 32, 2), (320, 32, 6), (96, 32, 12), (64, 14, 24)])
def test_dilated_depthwise_is_right_in_every_precision_and_layout(channels, height, dilation, dtype, layout):
    generator = torch.Generator().manual_seed(0)
    shapes = (2, channels, height, height), (channels, 1, 3, 3), (2, channels, height, height)
    x, weight, gradient = (torch.randn(s, generator=generator).to(dtype) for s in shapes)
    exact = x.double().requires_grad_(), weight.double().requires_grad_()
    wanted = torch.autograd.grad(native(*exact, dilation), exact, gradient.double())
    x = x.contiguous(memory_format=layout).requires_grad_()
    weight.requires_grad_()
    y = dilated_depthwise(x, weight, dilation)
    assert y.dtype == dtype
    assert layout != torch.channels_last or y.is_contiguous(memory_format=torch.channels_last)
    got = torch.autograd.grad(y, (x, weight), gradient.contiguous(memory_format=layout))
    limit = 1e-5 if dtype == torch.float32 else 0.02
    assert [relative(a, b) < limit for a, b in zip(got, wanted, strict=True)] == [True, True]
    assert relative(y, native(*exact, dilation)) < limit


def test_dilated_depthwise_follows_autocast():
    x = torch.randn(1, 4, 14, 14)
    weight = torch.randn(4, 1, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert {dilated_depthwise(x, weight, d).dtype for d in (2, 12)} == {torch.bfloat16}


def test_other_devices_convolve_natively():
    x = torch.empty(1, 4, 15, 14, device="meta")
    weight = torch.empty(4, 1, 3, 3, device="meta")
    assert dilated_depthwise(x, weight, 12).shape == x.shape


def test_interleaving_needs_sizes_that_the_dilation_divides():
    with pytest.raises(RuntimeError):
        interleaved(torch.zeros(1, 2, 15, 14), torch.zeros(2, 1, 3, 3), 2)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),  # not depthwise
        nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, padding=1, dilation=2, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, stride=2, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, bias=False, padding_mode="reflect"),
    ],
)
def test_other_convolutions_stay_as_they_are(conv: nn.Conv2d):
    assert not DilatedDepthwise.takes(conv)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("stride", "size", "height", "width"), [(2, 3, 8, 8), (2, 3, 7, 10), (3, 5, 9, 11), (1, 3, 6, 5)]
)
def test_the_gradient_of_depthwise_by_convolution_is_the_native_one(stride, size, height, width, layout):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, height, width, dtype=torch.double, generator=generator).contiguous(memory_format=layout)
    x, weight = (
        x.requires_grad_(),
        torch.randn(6, 1, size, size, dtype=torch.double, generator=generator).requires_grad_(),
    )
    wanted = F.conv2d(x, weight, None, stride, size // 2, 1, 6)
    got = ByConvolution.apply(x, weight, stride)
    assert torch.equal(got, wanted)
    gradient = torch.randn(wanted.shape, dtype=torch.double, generator=generator)
    for mine, theirs in zip(
        torch.autograd.grad(got, (x, weight), gradient), torch.autograd.grad(wanted, (x, weight), gradient), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(lambda a, b: ByConvolution.apply(a, b, stride), (x[:1, :2], weight[:2]))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_depthwise_is_right_in_bfloat16_and_torchs_own_in_float32(monkeypatch, dtype, stride):
    monkeypatch.setattr("seglab.models.depthwise.MULTIPLIES", True)
    generator = torch.Generator().manual_seed(0)
    x, weight, gradient = (torch.randn(s, generator=generator).to(dtype) for s in ((2, 96, 32, 32), (96, 1, 3, 3), 1))
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    y = depthwise(x, weight.requires_grad_(), stride)
    assert ("ByConvolution" in type(y.grad_fn).__name__) == (dtype == torch.bfloat16)
    gradient = torch.randn(y.shape, generator=generator).to(dtype)
    got = torch.autograd.grad(y, (x, weight), gradient)
    exact = x.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    wanted = torch.autograd.grad(F.conv2d(*exact, None, stride, 1, 1, 96), exact, gradient.double())
    limit = 1e-5 if dtype == torch.float32 else 0.005
    assert [relative(a, b) < limit for a, b in zip(got, wanted, strict=True)] == [True, True]


def test_depthwise_follows_autocast_computes_no_gradient_that_nobody_wants_and_is_native_elsewhere(monkeypatch):
    monkeypatch.setattr("seglab.models.depthwise.MULTIPLIES", True)
    x = torch.randn(1, 4, 8, 8)
    weight = torch.randn(4, 1, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = depthwise(x, weight, 2)  # of a frozen encoder
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert weight.grad is not None and weight.grad.dtype == torch.float32
    on_meta = depthwise(x.to("meta", torch.bfloat16), weight.to("meta", torch.bfloat16), 2)
    assert "ByConvolution" not in type(on_meta.grad_fn).__name__
    monkeypatch.setattr("seglab.models.depthwise.MULTIPLIES", False)
    with torch.autocast("cpu", torch.bfloat16):
        assert "ByConvolution" not in type(depthwise(x, weight, 2).grad_fn).__name__


@pytest.mark.parametrize(
    ("conv", "taken"),
    [
        (nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), True),
        (nn.Conv2d(4, 4, 3, padding=1, stride=2, groups=4, bias=False), True),
        (nn.Conv2d(4, 4, 3, padding=1, stride=2, groups=4), False),
        (nn.Conv2d(4, 4, 3, padding=1, stride=(2, 1), groups=4, bias=False), False),
        (nn.Conv2d(4, 4, 3, stride=2, groups=4, bias=False), False),
        (nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False), False),
        (nn.Conv2d(4, 4, 2, padding=1, stride=2, groups=4, bias=False), False),
        (nn.Conv2d(1, 1, 1, bias=False), False),
    ],
)
def test_which_convolutions_depthwise_takes(conv: nn.Conv2d, taken: bool):
    assert Depthwise.takes(conv) == taken


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.ReLU6(inplace=True), (2, 3, 6, 6)),
        (nn.Upsample(mode="bilinear", scale_factor=4, align_corners=True), (2, 8, 5, 7)),
        (nn.AdaptiveAvgPool2d(1), (2, 3, 5, 7)),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_rewritten_layer_gives_the_same_values_and_gradients(layer: nn.Module, shape, layout):
    x = 6 * torch.randn(shape, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    x[0, 0, 0, :2] = torch.tensor([0.0, 6.0])  # the corners of ReLU6
    x = x.contiguous(memory_format=layout)
    results = []
    for module in (layer, rewritten(nn.Sequential(type(layer)(**_arguments(layer))))):
        leaf = x.clone().requires_grad_()
        y = module(leaf * 1)
        (gradient,) = torch.autograd.grad((y * torch.arange(y.numel()).view(y.shape)).sum(), leaf)
        results.append((y.detach(), gradient))
        with torch.no_grad():
            assert torch.equal(module(x.clone()), y)
    assert type(module[0]) is FASTER[type(layer)]
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


def _arguments(layer: nn.Module) -> dict:
    names = ("inplace", "scale_factor", "mode", "align_corners", "output_size")
    return {name: getattr(layer, name) for name in names if hasattr(layer, name)}


def trained(net: nn.Module, image: Tensor, target: Tensor, autocast: bool = False) -> dict[str, Tensor]:
    """The gradient of every weight after one step without dropout."""
    net.train()
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = net(image)
    CrossEntropy()(logits, target).backward()
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def batch(count: int, size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = 255 * torch.rand(count, 3, size, size, generator=generator)
    classes = torch.randint(0, 4, (count, size // 8, size // 8), generator=generator)
    return image, F.one_hot(classes.repeat_interleave(8, 1).repeat_interleave(8, 2), 4).permute(0, 3, 1, 2).float()


def test_deeplab_is_smps_own_in_values_gradients_and_names():
    ours = DeepLabV3Plus(4).double()
    theirs = smp.DeepLabV3Plus("mobilenet_v2", encoder_weights=None, classes=4).double()
    theirs.load_state_dict(ours.net.state_dict())
    image, target = batch(2, 96)
    mine = trained(ours, image.double(), target)
    other = trained(theirs, image.double() * ours.scale + ours.shift, target)
    assert {name.removeprefix("net.") for name in mine} == set(other)
    errors = {name: relative(mine[f"net.{name}"], g) for name, g in other.items() if g.norm() > 1e-12}
    assert max(errors.values()) < 1e-9


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_every_convolution_gets_what_it_computes_in_its_own_layout(count: int, training: bool):
    """A single image can have strides that look like channels-first; then each layer would copy it again."""
    net = DeepLabV3Plus(4).lay_out(torch.channels_last).train(training)
    turned: list[tuple[int, ...]] = []

    def look(conv: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        x = inputs[0]
        if x.shape[2] > 1 and not x.is_contiguous(memory_format=torch.channels_last):
            turned.append(x.shape)

    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(look)
    net(torch.zeros(count, 3, 64, 80))
    assert turned == []


def test_every_layers_weight_gradient_is_right_at_512():
    """With the fault that this guards against, five layers trained on noise (relative errors of 1.2 to 1.4).

    Each layer is compared with itself in float64, given the input and the gradient that it had within the network.
    """
    torch.manual_seed(0)
    net = DeepLabV3Plus(4).to(memory_format=torch.channels_last)
    seen: dict[str, list[Tensor]] = {}
    layers = {name: m for name, m in net.named_modules() if next(m.parameters(recurse=False), None) is not None}
    for name, layer in layers.items():

        def note(_, inputs: tuple[Tensor], output: Tensor, name: str = name) -> None:
            seen[name] = [inputs[0].detach()]
            output.register_hook(seen[name].append)

        layer.register_forward_hook(note)
    image, target = batch(2, 512)
    bf16 = resolved_precision("auto", "cpu") == "bf16-mixed"
    got = trained(net, image.contiguous(memory_format=torch.channels_last), target, bf16)
    errors = {}
    for name, layer in layers.items():
        exact = nn.Conv2d.forward if isinstance(layer, nn.Conv2d) else type(layer).forward
        layer = copy.deepcopy(layer).double()
        x, gradient = (t.double() for t in seen[name])
        (wanted,) = torch.autograd.grad(exact(layer, x), layer.weight, gradient)
        errors[name] = relative(got[f"{name}.weight"], wanted)  # a shift before batch norm has no gradient but rounding
    assert len(errors) > 120
    assert {name: error for name, error in errors.items() if error > 0.02} == {}
