"""Counting against sorting: the same loss and the same gradient, on maps as good or bad as trainings meet them."""

import numpy as np
import pytest
import reference
import torch
from torch import Tensor

from seglab.labels import one_hot
from seglab.losses import Lovasz, LovaszSorted
from seglab.losses.lovasz import BINS, FEW, bins, errors, increments, increments_by_counting
from seglab.losses.lovasz_sorted import increments_by_sorting


def batch(confidence: float, void: float = 0.0, classes: int = 4, present: int = 4) -> tuple[Tensor, Tensor]:
    """Logits that are right by `confidence`, and a target of blocks of the first `present` classes."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.randint(0, present, (2, 16, 16), generator=generator)
    mask = mask.repeat_interleave(8, 1).repeat_interleave(8, 2).to(torch.uint8)
    mask[torch.rand(mask.shape, generator=generator) < void] = 255
    target = one_hot(mask, classes).float()
    noise = torch.randn(target.shape, generator=generator)
    return noise + confidence * target * torch.rand(2, 1, 128, 128, generator=generator), target


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize(
    ("confidence", "void", "present"),
    [(0.0, 0.0, 4), (2.0, 0.0, 4), (12.0, 0.0, 4), (40.0, 0.0, 4), (2.0, 0.3, 4), (2.0, 0.0, 2), (-20.0, 0.1, 3)],
)
def test_counting_is_sorting(confidence: float, void: float, present: int, per_image: bool):
    logits, target = batch(confidence, void, present=present)
    assert target[:, 0].numel() // (2 if per_image else 1) > FEW, "or sorting would be compared with itself"
    values = []
    gradients = []
    for loss in (Lovasz(per_image), LovaszSorted(per_image)):
        leaf = logits.clone().requires_grad_()
        value = loss(leaf, target)
        value.backward()
        values.append(value.item())
        gradients.append(leaf.grad.double().flatten())
    assert abs(values[0] - values[1]) <= 1e-5
    assert torch.cosine_similarity(*gradients, dim=0) >= 0.9999
    assert not gradients[0].view(target.shape)[(target.sum(1, keepdim=True) == 0).expand_as(target)].any()


def right_by(margin: float, noise: float) -> tuple[Tensor, Tensor]:
    """Logits that are right by `margin` at each pixel, give or take `noise`, and the target of `batch`."""
    logits, target = batch(0.0)
    return noise * logits + margin * target, target


def value_and_gradient(loss: Lovasz, logits: Tensor, target: Tensor) -> tuple[float, Tensor]:
    leaf = logits.clone().requires_grad_()
    value = loss(leaf, target)
    value.backward()
    return value.item(), leaf.grad.double()


@pytest.mark.parametrize("noise", [1.0, 0.3])
@pytest.mark.parametrize("margin", [*range(21), 40, 80])
def test_counting_is_sorting_at_any_margin(margin: float, noise: float):
    """The better a map, the closer its errors lie to 0: with bins of equal width nearly all would share the first."""
    logits, target = right_by(margin, noise)
    value, gradient = value_and_gradient(Lovasz(), logits, target)
    error = errors(logits, target).transpose(0, 1).flatten(1).numpy()
    truth = target.transpose(0, 1).flatten(1).numpy() > 0
    expected = np.mean([reference.lovasz_of_errors(e, t) for e, t in zip(error, truth, strict=True)])
    assert value == pytest.approx(expected, rel=1e-5)
    value, exact = value_and_gradient(LovaszSorted(), logits, target)
    assert value == pytest.approx(expected, rel=1e-5)
    for mine, wanted in zip(gradient.unbind(1), exact.unbind(1), strict=True):
        assert (mine * wanted).sum() >= 0.9999 * mine.norm() * wanted.norm() > 0


@pytest.mark.parametrize("margin", [0, 5, 9, 17, 20, 40])
def test_float32_keeps_what_a_nearly_perfect_map_still_lacks(margin: float):
    """1 - p in float32 would be off by 2e-4 at a margin of 9, and 0 at 17. The expected value is float64's."""
    logits, target = right_by(margin, 1.0)
    value, gradient = value_and_gradient(Lovasz(), logits, target)
    exact, wanted = value_and_gradient(LovaszSorted(), logits.double(), target)
    assert value == pytest.approx(exact, rel=1e-5)
    assert (gradient - wanted).norm() <= 1e-3 * wanted.norm()


def test_larger_errors_are_in_higher_bins():
    error = torch.cat([torch.logspace(-44, 0, 4001, 10), torch.linspace(0, 1, 4001)]).sort().values
    numbers = bins(error)
    assert (numbers.diff() >= 0).all() and numbers[0] == 0 and numbers[-1] == BINS - 1
    assert bins(torch.tensor([1.0 + 1e-6])) == BINS - 1  # a sum of probabilities can be a little above 1
    apart = torch.tensor([[1e-30, 1.02e-30], [1e-8, 1.02e-8], [0.5, 0.50013], [0.9, 0.90013]])
    assert (bins(apart).diff() > 0).all()


@pytest.mark.parametrize("loss", [Lovasz(), LovaszSorted()])
def test_a_logit_that_is_not_a_number_makes_the_loss_none(loss: Lovasz):
    logits, target = batch(1.0)
    logits[0, 1, 2, 3] = torch.nan
    assert loss(logits, target).isnan()


def test_counting_on_the_prediction_of_one_value():
    """All errors in one bin: the increments of its pixels are those of the average over their orders."""
    truth = torch.arange(2 * FEW) % 4 == 0
    error = torch.full((1, 2 * FEW), 0.5)
    counted, sorted_ = (f(error, truth[None]).double() for f in (increments_by_counting, increments_by_sorting))
    assert counted.sum().item() == pytest.approx(1.0, abs=1e-6) == sorted_.sum().item()
    assert counted[:, truth].unique().numel() == 1


def test_counts_by_hand():
    """Two of four pixels wrong by 1, one of each class: the loss goes 0 -> 2/3 for one of two hits and one miss."""
    error = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    truth = torch.tensor([[True, False, True, False]])
    counted = increments_by_counting(error, truth)
    assert (counted * error).sum().item() == pytest.approx(2 / 3)


def test_few_pixels_are_sorted_and_many_counted():
    generator = torch.Generator().manual_seed(0)
    error = torch.rand(3, FEW + 1, generator=generator)
    truth = torch.rand(3, FEW + 1, generator=generator) < 0.3
    assert torch.equal(
        increments(error[:, :FEW], truth[:, :FEW]), increments_by_sorting(error[:, :FEW], truth[:, :FEW])
    )
    assert torch.equal(increments(error, truth), increments_by_counting(error, truth))


def test_counting_does_not_depend_on_threads():
    logits, target = batch(3.0)
    before = torch.get_num_threads()
    gradients = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        leaf = logits.clone().requires_grad_()
        Lovasz()(leaf, target).backward()
        gradients.append(leaf.grad)
    torch.set_num_threads(before)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=0)


def test_all_void_gives_zero_without_gradient():
    logits, target = batch(1.0, void=1.1)
    logits.requires_grad_()
    value = Lovasz()(logits, target)
    value.backward()
    assert value.item() == 0 and not logits.grad.any()
