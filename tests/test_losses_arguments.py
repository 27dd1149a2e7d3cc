"""The losses with other arguments than those of conf/loss, and the promises of single losses."""

from collections.abc import Callable
from math import sqrt
from typing import Any

import pytest
import reference
import torch
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from test_losses import build, example, two_pixels, value_and_gradient
from torch import Tensor, nn

from seglab import losses
from seglab.labels import VOID, one_hot
from seglab.losses.binary_cross_entropy import binary_cross_entropy
from seglab.losses.boundary import boundary
from seglab.losses.boundary_distance import boundary_distance, distance_maps
from seglab.losses.cross_entropy import cross_entropy
from seglab.losses.focal import focal
from seglab.losses.focal_sigmoid import focal_sigmoid
from seglab.losses.lovasz import lovasz_softmax
from seglab.losses.lovasz_sorted import increments_by_sorting
from seglab.losses.overlap import overlap

WEIGHTS = [0.5, 2.0, 0.0, 1.0]
DICE = {"alpha": 0.5, "beta": 0.5}
JACCARD = {"alpha": 1.0, "beta": 1.0}
IMAGE = {"per_image": True}
JOINT = {"per_class": False}
WEIGHTED = {"class_weights": WEIGHTS}


@pytest.mark.parametrize(
    ("module", "function", "fixed", "slow", "arguments"),
    [
        (losses.CrossEntropy, cross_entropy, {}, reference.cross_entropy, WEIGHTED),
        (
            losses.BinaryCrossEntropy,
            binary_cross_entropy,
            {},
            reference.binary_cross_entropy,
            {"class_weights": WEIGHTS},
        ),
        (losses.Focal, focal, {}, reference.focal, {"gamma": 0.5, "alpha": WEIGHTS}),
        (losses.FocalSigmoid, focal_sigmoid, {}, reference.focal_sigmoid, {"gamma": 1.5, "alpha": None}),
        (losses.Dice, overlap, DICE, reference.dice, {"squared": True, **IMAGE}),
        (losses.Dice, overlap, DICE, reference.dice, JOINT),
        (losses.Jaccard, overlap, JACCARD, reference.jaccard, {"squared": True, **IMAGE, **JOINT}),
        (losses.Tversky, overlap, {}, reference.tversky, {"alpha": 0.2, "beta": 0.9, "gamma": 4 / 3, **IMAGE}),
        (losses.Tversky, overlap, {}, reference.tversky, {"alpha": 0.3, "beta": 0.7, "gamma": 0.75}),
        (losses.Lovasz, lovasz_softmax, {}, reference.lovasz, IMAGE),
        (losses.Boundary, boundary, {}, reference.boundary, {"theta0": 5, "theta": 3, "both_sides": True, **IMAGE}),
        (losses.Boundary, boundary, {}, reference.boundary, {"both_sides": True}),
        (losses.Boundary, boundary, {}, reference.boundary, {"theta": 7, **JOINT}),
        (losses.BoundaryDistance, boundary_distance, {}, reference.boundary_distance, {"classes": [1, 3]}),
    ],
)
def test_module_function_and_slow_version_agree(
    module: type[nn.Module], function: Callable, fixed: dict[str, Any], slow: Callable, arguments: dict[str, Any]
):
    logits, target, _ = example()
    logits = logits.double().requires_grad_()
    loss = module(**arguments)
    value = loss(logits, target)
    assert value == function(logits, target, **fixed, **arguments)
    expected = slow(logits.detach().numpy(), target.double().numpy(), **arguments)
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits)


@pytest.mark.parametrize("name", ["dice", "dice_sorensen", "jaccard", "tversky", "lovasz", "boundary"])
def test_absent_class_is_left_out(name):
    """The mean is over the classes in the target: a fourth one that is nowhere changes nothing."""
    logits, target, _ = example(3, void=False)
    more = torch.cat([logits, torch.full_like(logits[:, :1], -1e4)], 1)
    wider = torch.cat([target, 0 * target[:, :1]], 1)
    torch.testing.assert_close(build(name)(more, wider), build(name)(logits, target))


@pytest.mark.parametrize("margin", [12.0, 14.0, 15.5, 16.5, 17.0, 17.5])
def test_overlap_is_never_above_one(margin):
    """Rounding puts the squared index of nearly perfect maps up to 2e-7 above 1: a power of that would be NaN."""
    logits, target, _ = example(height=200, width=57)
    value = overlap(margin * target + logits / 10, target, **DICE, gamma=4 / 3, squared=True)
    assert value >= 0


def test_focal_tversky_as_published_by_hand():
    """Abraham & Khan: (1 - TI)^(1/gamma) with gamma 4/3, and TI = TP / (TP + 0.3 FP + 0.7 FN)."""
    first = (3 / 4) / (3 / 4 + 0.3 / 2 + 0.7 / 4)
    second = (1 / 2) / (1 / 2 + 0.3 / 4 + 0.7 / 2)
    expected = ((1 - first) ** (3 / 4) + (1 - second) ** (3 / 4)) / 2
    assert losses.Tversky(0.3, 0.7, gamma=0.75)(*two_pixels()).item() == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [0.25, 0.75])
def test_tversky_gradient_is_finite_where_all_is_right(gamma: float):
    """A power below 1 has an infinite slope at 0, where the loss of a perfect map lies."""
    _, target, _ = example()
    for margin in (0.0, 8.0, 16.0, 20.0, 1e4):
        value, gradient = value_and_gradient(losses.Tversky(gamma=gamma), margin * target, target)
        assert value.isfinite() and gradient.isfinite().all()
    assert value == 0
    value, gradient = value_and_gradient(losses.Tversky(gamma=gamma), 20 * target, 0 * target)
    assert value == 0 and not gradient.any()


def test_smooth_is_added_above_and_below():
    logits, target = two_pixels()
    expected = 1 - ((3 / 4 + 1) / (9 / 8 + 1) + (1 / 2 + 1) / (7 / 8 + 1)) / 2
    assert losses.Dice(smooth=1.0)(logits, target).item() == pytest.approx(expected)


def test_focal_reaches_every_pixel():
    """The original took the largest value of each image column: 1.8 % of the pixels got a gradient."""
    logits, target, void = example(height=64, width=64)
    _, gradient = value_and_gradient(build("focal"), logits, target)
    assert (gradient.abs().sum(1, keepdim=True) > 0).equal(~void)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("loss", [losses.Focal, losses.FocalSigmoid])
def test_focal_gradient_is_finite_where_all_is_right(loss, gamma):
    _, target, _ = example()
    _, gradient = value_and_gradient(loss(gamma), 1e4 * (2 * target - 1), target)
    assert gradient.isfinite().all()


def test_focal_without_focus_is_cross_entropy():
    logits, target, _ = example()
    torch.testing.assert_close(losses.Focal(gamma=0.0)(logits, target), losses.CrossEntropy()(logits, target))


def test_boundary_tolerates_inside_the_region_only():
    """The published tolerance on both sides finds little wrong with a map whose regions all have another class."""
    _, target, _ = example(height=32, width=32, void=False)
    logits = 100 * target.roll(1, 1)
    assert losses.Boundary()(logits, target).item() == pytest.approx(1)
    assert losses.Boundary(both_sides=True)(logits, target) < 0.5


def test_boundary_without_any_edge():
    """A constant map misses every edge, and a target of one class has none; the original gave NaN for both."""
    logits, target, _ = example()
    assert losses.Boundary()(0 * logits, target) == 1
    assert losses.Boundary()(logits, one_hot(torch.full((2, 9, 7), 2), 4)) == 0


def test_lovasz_increments_do_not_drift():
    """Jaccard increments of 400,000 pixels in float32 are those of float64 to 6 digits, and sum to 1."""
    generator = torch.Generator().manual_seed(0)
    error = torch.rand(1, 400_000, generator=generator)
    truth = torch.rand(1, 400_000, generator=generator) < 0.3
    increments = increments_by_sorting(error, truth)
    torch.testing.assert_close(increments.double(), increments_by_sorting(error.double(), truth), rtol=1e-6, atol=0)
    assert increments.double().sum().item() == pytest.approx(1, rel=1e-7)


def maps_of(mask: list[list[int]]) -> Tensor:
    """Distance maps [K,H,W] of one index map of two classes."""
    return distance_maps(one_hot(torch.tensor([mask]), 2), range(2))[0]


def test_distance_to_a_boundary_looks_through_void():
    maps = maps_of([[0, 0, 0, VOID, 1, 1]])[:, 0]
    assert maps[:, [0, 1, 2, 4, 5]].tolist() == [[-3, -2, -1, 1 + 1, 1 + 2], [4, 3, 2, -1, -2]]


def test_no_boundary_no_distance():
    """A class that fills the image, or is not in it, has none; scipy would measure to a point that is not there."""
    assert not maps_of([[1, 1], [1, VOID]]).any()


def test_distance_is_the_straight_line():
    assert maps_of([[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])[1, 2, 3].item() == pytest.approx(sqrt(13))


class TestCompound:
    def test_composes_from_its_parts(self):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            cfg = compose(None, overrides=["+loss=lovasz_cross_entropy", "loss.weights.lovasz=0.25"])
        assert cfg.loss.losses.lovasz._target_ == "seglab.losses.Lovasz"
        assert cfg.loss.losses.cross_entropy.class_weights is None
        logits, target, _ = example()
        expected = 0.25 * losses.Lovasz()(logits, target) + losses.CrossEntropy()(logits, target)
        torch.testing.assert_close(instantiate(cfg.loss)(logits, target), expected)

    @pytest.mark.parametrize("weights", [{"dice": 1.0}, {"dice": 1.0, "focal": 1.0, "lovasz": 1.0}, {}])
    def test_weights_must_name_the_losses(self, weights):
        with pytest.raises(ValueError, match=r"weights \[.*\]: expected one for each of .*'dice', 'focal'"):
            losses.Compound({"dice": losses.Dice(), "focal": losses.Focal()}, weights)

    def test_weight_must_be_a_weight(self):
        with pytest.raises(ValueError, match=r"weights.dice -1.0: expected a finite number >= 0"):
            losses.Compound({"dice": losses.Dice()}, {"dice": -1.0})


@pytest.mark.parametrize(
    ("loss", "arguments", "message"),
    [
        (losses.CrossEntropy, {"class_weights": [1.0, -1.0]}, r"class_weights \[1.0, -1.0\]: expected"),
        (losses.BinaryCrossEntropy, {"class_weights": [0.0, 0.0]}, "not all 0"),
        (losses.Focal, {"gamma": -1.0}, "gamma -1.0: expected a number >= 0"),
        (losses.Focal, {"alpha": [float("inf")]}, r"alpha \[inf\]: expected"),
        (losses.FocalSigmoid, {"alpha": 1.5}, "alpha 1.5: expected a number from 0 to 1"),
        (losses.FocalSigmoid, {"gamma": float("nan")}, "gamma nan: expected"),
        (losses.Dice, {"smooth": -1.0}, "smooth -1.0: expected"),
        (losses.Jaccard, {"smooth": -1.0}, "smooth -1.0: expected"),
        (losses.Tversky, {"smooth": -1.0}, "smooth -1.0: expected"),
        (losses.Tversky, {"alpha": -0.1}, "alpha -0.1: expected"),
        (losses.Tversky, {"beta": 0.0}, "beta 0.0: expected"),
        (losses.Tversky, {"gamma": 0.0}, "gamma 0.0: expected a number > 0, the exponent"),
        (losses.Tversky, {"gamma": float("inf")}, "gamma inf: expected a number > 0"),
        (losses.Boundary, {"theta0": 4}, "theta0 4: expected an odd number"),
        (losses.Boundary, {"theta": 1}, "theta 1: expected an odd number"),
        (losses.BoundaryDistance, {"classes": []}, r"classes \[\]: expected"),
        (losses.BoundaryDistance, {"classes": [1, 1]}, r"classes \[1, 1\]: expected"),
    ],
)
def test_arguments_out_of_range(loss, arguments, message):
    with pytest.raises(ValueError, match=message):
        loss(**arguments)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (losses.CrossEntropy([1.0] * 3), "class_weights has 3 numbers, the logits 4 classes"),
        (losses.BinaryCrossEntropy([1.0] * 5), "class_weights has 5 numbers, the logits 4 classes"),
        (losses.Focal(alpha=[1.0] * 3), "alpha has 3 numbers, the logits 4 classes"),
        (losses.BoundaryDistance([1, 4]), r"classes \[1, 4\]: expected indices 0..3"),
    ],
)
def test_arguments_for_another_number_of_classes(loss, message):
    logits, target, _ = example()
    with pytest.raises(ValueError, match=message):
        loss(logits, target)
