"""Every loss of conf/loss keeps the contract, and its numbers are those worked out by hand and by a slow version."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from inspect import signature
from math import log

import numpy as np
import pytest
import reference
import torch
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, instantiate
from torch import Tensor, nn

from seglab.labels import VOID, one_hot

NAMES = sorted(path.stem for path in (ROOT / "conf" / "loss").glob("*.yaml"))


@dataclass
class Row:
    """Expected values of a loss: `by_hand` for the two pixels of `two_pixels`, `reference` for any input."""

    by_hand: float
    reference: Callable[[np.ndarray, np.ndarray], float]


# The two pixels: probabilities (3/4, 1/4) where class 0 is true, (1/2, 1/2) where class 1 is true.
# Sigmoids of their logits log p are p / (1 + p): 3/7 and 1/5, then 1/3 and 1/3.
ROWS = {
    "cross_entropy": Row((log(4 / 3) + log(2)) / 2, reference.cross_entropy),
    "binary_cross_entropy": Row(
        -(log(3 / 7) + log(4 / 5) + log(2 / 3) + log(1 / 3)) / 4, reference.binary_cross_entropy
    ),
    "focal": Row(((1 / 4) ** 2 * log(4 / 3) + (1 / 2) ** 2 * log(2)) / 2, reference.focal),
    # alpha 1/4 for the true class, 3/4 for the other
    "focal_sigmoid": Row(
        -(
            1 / 4 * (4 / 7) ** 2 * log(3 / 7)
            + 3 / 4 * (1 / 5) ** 2 * log(4 / 5)
            + 3 / 4 * (1 / 3) ** 2 * log(2 / 3)
            + 1 / 4 * (2 / 3) ** 2 * log(1 / 3)
        )
        / 4,
        partial(reference.focal_sigmoid, alpha=0.25),
    ),
    # each pixel is the only row of its column; the mean over 2 columns and 2 classes
    "original_focal": Row(
        ((1 / 4 - 1e-7) ** 2 * -log(3 / 4 + 1e-7) + (1 / 2 - 1e-7) ** 2 * -log(1 / 2 + 1e-7)) / 4 / 4,
        reference.original_focal,
    ),
    # class 0: TP 3/4, sum of p 5/4, of p² 13/16; class 1: TP 1/2, sum of p 3/4, of p² 5/16; one true pixel each
    "dice": Row(1 - ((3 / 2) / (13 / 16 + 1) + 1 / (5 / 16 + 1)) / 2, partial(reference.dice, squared=True)),
    "dice_sorensen": Row(1 - ((3 / 2) / (5 / 4 + 1) + 1 / (3 / 4 + 1)) / 2, reference.dice),
    "jaccard": Row(1 - ((3 / 4) / (5 / 4 + 1 - 3 / 4) + (1 / 2) / (3 / 4 + 1 - 1 / 2)) / 2, reference.jaccard),
    # false positives 1/2 and 1/4, false negatives 1/4 and 1/2
    "tversky": Row(
        1 - ((3 / 4) / (3 / 4 + 0.3 / 2 + 0.7 / 4) + (1 / 2) / (1 / 2 + 0.3 / 4 + 0.7 / 2)) / 2,
        partial(reference.tversky, alpha=0.3, beta=0.7),
    ),
    # class 0: first the false positive of 1/2 takes Jaccard to 1/2, then the miss of 1/4 to 0: 1/2 * 1/2 + 1/4 * 1/2;
    # class 1: the miss of 1/2 takes it to 0 at once
    "lovasz": Row((3 / 8 + 1 / 2) / 2, reference.lovasz),
    "lovasz_sorted": Row((3 / 8 + 1 / 2) / 2, reference.lovasz),
    # The edge of class 0 in the map is its drop to the other pixel, 3/4 - 1/2 = 1/4 and 0, in the target 1 and 0, so
    # precision (1/4 * 1) / (1/4) = 1, recall (1/4 * 1) / 1, F1 2/5; of class 1 the drop is 1/2 - 1/4, the same.
    "boundary": Row(1 - 2 / 5, reference.boundary),
    # distances are 0 at the region's own pixel, 1 at the other: p of class 0 at pixel 1, p of class 1 at pixel 0
    "boundary_distance": Row((1 / 2 + 1 / 4) / 4, reference.boundary_distance),
}


def sum_of(*names: str) -> Row:
    rows = [ROWS[name] for name in names]
    return Row(sum(row.by_hand for row in rows), lambda *pair: sum(row.reference(*pair) for row in rows))


ROWS |= {
    "dice_cross_entropy": sum_of("dice", "cross_entropy"),
    "dice_focal": sum_of("dice", "focal"),
    "lovasz_cross_entropy": sum_of("lovasz", "cross_entropy"),
    "lovasz_dice": sum_of("lovasz", "dice"),
}


@cache
def build(name: str) -> nn.Module:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return instantiate(compose(None, overrides=[f"+loss={name}"]).loss)


def two_pixels(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    p = torch.tensor([[3 / 4, 1 / 4], [1 / 2, 1 / 2]], dtype=dtype)  # [pixel,K]
    return p.log().T.reshape(1, 2, 1, 2), torch.eye(2).reshape(1, 2, 1, 2)


def example(
    num_classes: int = 4, batch: int = 2, height: int = 9, width: int = 7, void: bool = True, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [B,K,H,W] and one-hot target of blobs with a void corner in each image, and the mask that is void."""
    generator = torch.Generator().manual_seed(seed)
    blobs = torch.randint(num_classes, (batch, 1, height, width), generator=generator)
    blobs[..., 1::2, :] = blobs[..., : height - height % 2 : 2, :]
    mask = blobs[:, 0].to(torch.uint8)
    if void:
        mask[:, : height // 3 + 1, : width // 3] = VOID
    logits = 1.5 * torch.randn(batch, num_classes, height, width, generator=generator)
    return logits, one_hot(mask, num_classes).float(), (mask == VOID)[:, None]


def value_and_gradient(loss: nn.Module, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, target)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


def test_every_loss_has_a_row():
    missing = set(NAMES) - set(ROWS)
    gone = set(ROWS) - set(NAMES)
    assert not missing, f"add a row to ROWS in tests/test_losses.py for conf/loss: {sorted(missing)}"
    assert not gone, f"ROWS in tests/test_losses.py has no file in conf/loss for {sorted(gone)}"


@pytest.mark.parametrize("name", NAMES)
class TestContract:
    """The contract on which the rest of seglab relies, for each loss of conf/loss."""

    def test_config_writes_all_arguments(self, name):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            cfg = compose(None, overrides=[f"+loss={name}"]).loss
        parameters = signature(get_class(cfg._target_)).parameters.values()  # without __init__: nn.Module's * and **
        named = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        assert set(cfg) - {"_target_"} == named

    def test_value_by_hand(self, name):
        assert build(name)(*two_pixels()).item() == pytest.approx(ROWS[name].by_hand, rel=1e-6)

    @pytest.mark.parametrize("num_classes", [2, 4, 7])
    def test_slow_version(self, name, num_classes):
        logits, target, _ = example(num_classes)
        expected = ROWS[name].reference(logits.double().numpy(), target.double().numpy())
        assert build(name)(logits.double(), target).item() == pytest.approx(expected, rel=1e-6)
        assert build(name)(logits, target).item() == pytest.approx(expected, rel=1e-5)

    def test_gradient_in_float64(self, name):
        logits, target, _ = example(3, height=5, width=4)
        logits = logits.double().requires_grad_()
        assert build(name)(logits, target).dtype == torch.float64
        assert torch.autograd.gradcheck(lambda x: build(name)(x, target), logits)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_float32_whatever_comes(self, name, dtype):
        logits, target, _ = example()
        logits = logits.to(dtype)
        expected, _ = value_and_gradient(build(name), logits.float(), target)
        value, gradient = value_and_gradient(build(name), logits, target.to(dtype))
        assert value.dtype == torch.float32 and value.shape == ()
        assert value == expected
        assert gradient.dtype == dtype
        with torch.autocast("cpu", torch.bfloat16):
            value, gradient = value_and_gradient(build(name), logits, target)
        assert value.dtype == torch.float32
        assert value == expected
        assert gradient.isfinite().all() and gradient.any()

    @pytest.mark.parametrize("size", [1e4, 1e30, torch.finfo(torch.float32).max])
    def test_finite_for_extreme_logits(self, name, size):
        logits, target, _ = example()
        for extreme in (size * logits.sign(), size * (2 * target - 1), -size * (2 * target - 1), 0 * logits + size):
            value, gradient = value_and_gradient(build(name), extreme, target)
            assert value.isfinite() and gradient.isfinite().all()

    def test_finite_at_the_end_of_float16(self, name):
        logits, target, _ = example(height=64, width=64)
        for extreme in (65504 * logits.sign(), 65504 * (2 * target - 1)):
            value, gradient = value_and_gradient(build(name), extreme.half(), target)
            assert value.isfinite() and gradient.isfinite().all()

    def test_void_has_no_say(self, name):
        logits, target, void = example()
        value, gradient = value_and_gradient(build(name), logits, target)
        assert (gradient.masked_select(void) == 0).all()
        changed = torch.where(void, 100 * logits.flip(1) + 7, logits)
        value_changed, gradient_changed = value_and_gradient(build(name), changed, target)
        assert value_changed == value
        assert torch.equal(gradient_changed, gradient)

    def test_all_void_is_zero(self, name):
        logits, target, _ = example()
        value, gradient = value_and_gradient(build(name), logits, 0 * target)
        assert value == 0
        assert not gradient.any()

    def test_no_images_is_zero(self, name):
        logits, target, _ = example()
        value, gradient = value_and_gradient(build(name), logits[:0], target[:0])
        assert value == 0 and value.shape == ()
        assert gradient.shape == logits[:0].shape

    @pytest.mark.parametrize("num_classes", [2, 4, 7])
    def test_gradient_leads_down(self, name, num_classes):
        logits, target, _ = example(num_classes)
        value, gradient = value_and_gradient(build(name), logits, target)
        assert gradient.any()
        step = 1e-2 * gradient / gradient.norm()
        assert build(name)(logits - step, target) < value

    def test_right_is_better_than_wrong(self, name):
        _, target, _ = example()
        right = build(name)(8 * target, target)
        assert right < build(name)(0 * target, target)
        assert right < build(name)(8 * target.roll(1, 1), target)

    def test_one_pixel(self, name):
        logits, target, _ = example(4, 1, 1, 1, void=False)
        value, gradient = value_and_gradient(build(name), logits, target)
        assert value.isfinite() and gradient.isfinite().all()

    def test_order_of_images_does_not_matter(self, name):
        logits, target, _ = example(batch=3)
        value, gradient = value_and_gradient(build(name), logits, target)
        turned, gradient_turned = value_and_gradient(build(name), logits.flip(0), target.flip(0))
        torch.testing.assert_close(turned, value, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(gradient_turned.flip(0), gradient)

    def test_memory_layout_does_not_matter(self, name):
        logits, target, _ = example()
        value, gradient = value_and_gradient(build(name), logits, target)
        logits = logits.to(memory_format=torch.channels_last)
        last, gradient_last = value_and_gradient(build(name), logits, target)
        torch.testing.assert_close(last, value, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(gradient_last, gradient)

    def test_twice_the_same(self, name):
        logits, target, _ = example()
        logits = logits.round()  # many ties
        first, again = (value_and_gradient(build(name), logits, target) for _ in range(2))
        assert first[0] == again[0] and torch.equal(first[1], again[1])

    def test_shapes_that_differ_are_refused(self, name):
        logits, target, _ = example()
        with pytest.raises(ValueError, match=r"must have the same shape \[B,K,H,W\]"):
            build(name)(logits, target[:, :1])


@pytest.mark.parametrize("name", NAMES)
def test_a_target_of_bytes_is_one_of_floats(name: str):
    loss, (logits, target, *_) = build(name), example()
    assert torch.equal(loss(logits, target.to(torch.uint8)), loss(logits, target))
