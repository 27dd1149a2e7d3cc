"""The losses against golden values: the original system's own code, and published references.

`/` in a case is `<shape>/<case>` of golden/README.md. The original's losses take probabilities: ours get their
logarithms as logits, and gradients are compared after the chain rule through the softmax.
"""

from math import exp
from pathlib import Path

import numpy as np
import pytest
import torch
from test_losses import value_and_gradient
from torch import Tensor, nn

from seglab import losses
from seglab.labels import one_hot
from seglab.losses.boundary_distance import distance_maps

CASES = ["random", "near", "absent", "perfect", "allwrong", "uniform", "single"]
SMOOTH_CASES = ["random", "near", "absent"]  # elsewhere ties make the gradient a matter of sorting
SHAPES = ["A", "B"]

AS_ORIGINAL: dict[str, nn.Module] = {
    "cce": losses.CrossEntropy(),
    "focal": losses.OriginalFocal(),
    "lovasz": losses.Lovasz(),
    # the original adds 1e-5 to 2 TP, that is half of it to TP
    "dice_jaccard": losses.Dice(squared=True, smooth=0.5e-5, per_image=True, per_class=False),
    "dice_sorensen": losses.Dice(squared=False, smooth=0.5e-5, per_image=True, per_class=False),
    "boundary": losses.Boundary(theta0=3, theta=5, both_sides=False, per_image=False, per_class=False),
}
AS_REFERENCE: dict[str, nn.Module] = {
    "torch_ce": losses.CrossEntropy(),
    "softmax_focal_g2_mean": losses.Focal(gamma=2.0),
    "smp_focal_l_g2": losses.FocalSigmoid(gamma=2.0),
    "smp_focal_l_g2_a025": losses.FocalSigmoid(gamma=2.0, alpha=0.25),
    "tv_sigmoid_focal_a025_g2_mean": losses.FocalSigmoid(gamma=2.0, alpha=0.25),
    "tv_sigmoid_focal_noalpha_g2_mean": losses.FocalSigmoid(gamma=2.0),
    "smp_lovasz_l": losses.Lovasz(),
    "smp_lovasz_l_perimage": losses.Lovasz(per_image=True),
}
# smp counts an absent class as 0 and still divides by all of them.
AS_SMP_OVERLAP: dict[str, nn.Module] = {
    "smp_dice_l": losses.Dice(),
    "smp_jaccard_l": losses.Jaccard(),
}


def nchw(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).permute(0, 3, 1, 2)


class Golden:
    """One file of golden values, read as tensors [B,K,H,W]."""

    def __init__(self, path: Path):
        self.arrays = np.load(path)

    def target(self, case: str) -> Tensor:
        return one_hot(torch.from_numpy(self.arrays[f"{case}/labels"].astype(np.uint8)), 4).float()

    def probabilities(self, case: str) -> Tensor:
        target = self.target(case)
        rebuilt = {"perfect": target, "allwrong": target.roll(1, 1), "uniform": torch.full_like(target, 0.25)}
        kind = case.split("/")[1]
        return rebuilt[kind] if kind in rebuilt else nchw(self.arrays[f"{case}/probs"])

    def value(self, case: str, loss: str) -> float:
        return float(self.arrays[f"{case}/{loss}/value"])

    def logits(self, case: str) -> Tensor:
        target = self.target(case)
        rebuilt = {"perfect": 12 * target, "allwrong": 12 * target.roll(1, 1), "uniform": 0 * target}
        kind = case.split("/")[1]
        return rebuilt[kind] if kind in rebuilt else nchw(self.arrays[f"{case}/logits"])

    def gradient(self, case: str, loss: str) -> Tensor:
        return nchw(self.arrays[f"{case}/{loss}/grad"])


@pytest.fixture(scope="module")
def original(shared: Path) -> Golden:
    return Golden(shared / "golden" / "original_losses.npz")


@pytest.fixture(scope="module")
def references(shared: Path) -> Golden:
    return Golden(shared / "golden" / "reference_losses.npz")


def as_logits(p: Tensor, zero: float = 1e-7) -> Tensor:
    """Logits whose softmax is `p`; 1e-7 stands for 0, as in Keras's own losses."""
    return p.clamp(min=zero).log()


def through_softmax(gradient: Tensor, p: Tensor) -> Tensor:
    """The gradient by the logits of a gradient by the probabilities."""
    return p * (gradient - (p * gradient).sum(1, keepdim=True))


def assert_same_gradient(ours: Tensor, theirs: Tensor, tolerance: float = 1e-4) -> None:
    assert (ours - theirs).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize("shape", SHAPES)
class TestOriginal:
    @pytest.mark.parametrize("case", CASES)
    @pytest.mark.parametrize("name", AS_ORIGINAL)
    def test_value(self, original, shape, case, name):
        p = original.probabilities(f"{shape}/{case}")
        target = original.target(f"{shape}/{case}")
        zero = 1e-30 if name == "focal" else 1e-7  # the original's focal adds 1e-7 itself
        ours = AS_ORIGINAL[name](as_logits(p, zero), target).item()
        theirs = original.value(f"{shape}/{case}", name)
        if name == "boundary" and case in ("uniform", "single"):
            # 0/0 in the original: no edge in the map, or none in the target. Ours: all is missed, or nothing was asked.
            assert np.isnan(theirs)
            assert ours == {"uniform": 1, "single": 0}[case]
        else:
            assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)

    @pytest.mark.parametrize("case", SMOOTH_CASES)
    @pytest.mark.parametrize("name", AS_ORIGINAL)
    def test_gradient(self, original, shape, case, name):
        p = original.probabilities(f"{shape}/{case}")
        target = original.target(f"{shape}/{case}")
        _, ours = value_and_gradient(AS_ORIGINAL[name], as_logits(p), target)
        assert_same_gradient(ours, through_softmax(original.gradient(f"{shape}/{case}", name), p))

    @pytest.mark.parametrize("case", SMOOTH_CASES)
    def test_binary_cross_entropy(self, original, shape, case):
        """The original's is on softmax probabilities; ours on their log-odds has the same value and gradient."""
        p = original.probabilities(f"{shape}/{case}").double()
        target = original.target(f"{shape}/{case}")
        value, by_log_odds = value_and_gradient(losses.BinaryCrossEntropy(), p.log() - (-p).log1p(), target)
        assert value.item() == pytest.approx(original.value(f"{shape}/{case}", "bce"), rel=1e-5)
        by_p = by_log_odds / (p * (1 - p))
        # Keras adds 1e-7 inside the logarithms, which tells where p is small.
        assert_same_gradient(by_p, original.gradient(f"{shape}/{case}", "bce"), tolerance=2e-4)

    @pytest.mark.parametrize("case", SMOOTH_CASES)
    def test_focal_was_the_largest_of_each_column(self, original, shape, case):
        """The original kept the largest value over the rows of an image; the mean over pixels is what focal means."""
        p = original.probabilities(f"{shape}/{case}")
        target = original.target(f"{shape}/{case}")
        each = -0.25 * target * (1 - p) ** 2 * p.log()
        unreduced = original.arrays[f"{shape}/{case}/focal/unreduced"]
        np.testing.assert_allclose(each.amax(2).permute(0, 2, 1), unreduced, rtol=1e-4, atol=1e-6)
        theirs = original.value(f"{shape}/{case}", "focal")
        assert each.amax(2).mean().item() == pytest.approx(theirs, rel=1e-5)
        ours, gradient = value_and_gradient(losses.Focal(gamma=2.0, alpha=[0.25] * 4), as_logits(p), target)
        assert ours.item() == pytest.approx(each.sum(1).mean().item(), rel=1e-5)
        assert ours.item() != pytest.approx(theirs, rel=0.1)
        reached = (gradient.abs().sum(1) > 0).float().mean()
        reached_by_original = (original.gradient(f"{shape}/{case}", "focal").abs().sum(1) > 0).float().mean()
        assert reached == 1
        assert reached_by_original <= 4 / target.shape[2]  # at most one pixel of each column for each class


@pytest.mark.parametrize("shape", SHAPES)
class TestReferences:
    @pytest.mark.parametrize("case", CASES)
    @pytest.mark.parametrize("name", AS_REFERENCE)
    def test_value_and_gradient(self, references, shape, case, name):
        key = f"{shape}/{case}"
        value, gradient = value_and_gradient(AS_REFERENCE[name], references.logits(key), references.target(key))
        close = 1e-7
        if case == "perfect" and isinstance(AS_REFERENCE[name], losses.Lovasz):
            # 1 - p of each pixel, which smp rounds to a multiple of 6e-8, where ours keeps 7 digits
            assert value.item() == pytest.approx(3 * exp(-12) / (1 + 3 * exp(-12)), rel=1e-6)
            close = 1.1e-7
        assert value.item() == pytest.approx(references.value(key, name), rel=1e-5, abs=close)
        if case in SMOOTH_CASES and f"{key}/{name}/grad" in references.arrays:
            assert_same_gradient(gradient, references.gradient(key, name))

    @pytest.mark.parametrize("case", CASES)
    @pytest.mark.parametrize("name", AS_SMP_OVERLAP)
    def test_overlap_as_smp_but_for_absent_classes(self, references, shape, case, name):
        """smp counts an absent class as 0 and divides by K; ours divides by the number of classes present."""
        key = f"{shape}/{case}"
        target = references.target(key)
        share = target.amax((0, 2, 3)).mean().item()  # of the classes that are present
        value, gradient = value_and_gradient(AS_SMP_OVERLAP[name], references.logits(key), target)
        assert value.item() * share == pytest.approx(references.value(key, name), rel=1e-5, abs=1e-6)
        assert (share < 1) == (case in ("absent", "single"))
        if case in SMOOTH_CASES:
            assert_same_gradient(gradient * share, references.gradient(key, name))

    @pytest.mark.parametrize("case", ["random", "near", "uniform"])
    def test_tversky_as_smp(self, references, shape, case):
        """Without gamma equal; smp takes the power of the mean over the classes, ours of each class (as the paper)."""
        key = f"{shape}/{case}"
        p = references.probabilities(key)
        target = references.target(key)
        plain = losses.Tversky(0.3, 0.7)(as_logits(p), target).item()
        assert plain == pytest.approx(references.value(key, "smp_tversky_p_a03_b07"), rel=1e-5)
        focal = losses.Tversky(0.3, 0.7, gamma=4 / 3)(as_logits(p), target).item()
        theirs = references.value(key, "smp_tversky_l_a03_b07_g133")
        assert plain ** (4 / 3) == pytest.approx(theirs, rel=1e-5)
        assert focal > theirs  # the mean of a convex power is above the power of the mean

    @pytest.mark.parametrize("case", SMOOTH_CASES)
    @pytest.mark.parametrize("per_image", [False, True])
    def test_lovasz_as_published(self, references, shape, case, per_image):
        key = f"{shape}/{case}"
        name = "lovasz_present" + "_perimage" * per_image
        p = references.probabilities(key)
        target = references.target(key)
        value, gradient = value_and_gradient(losses.Lovasz(per_image), as_logits(p), target)
        assert value.item() == pytest.approx(references.value(key, name), rel=1e-5)
        if case in SMOOTH_CASES and f"{key}/{name}/grad" in references.arrays:
            assert_same_gradient(gradient, through_softmax(references.gradient(key, name), p))

    @pytest.mark.parametrize("case", CASES)
    def test_distance_maps(self, references, shape, case):
        key = f"{shape}/{case}"
        ours = distance_maps(references.target(key), range(4))
        theirs = nchw(references.arrays[f"{key}/dist_nhwc"])
        if case == "single":
            # A class that fills the image has no boundary: ours 0, theirs the distance to a point scipy makes up.
            assert not ours.any() and theirs[:, 2].min() < -10
        else:
            torch.testing.assert_close(ours.float(), theirs)

    @pytest.mark.parametrize("case", [case for case in CASES if case != "single"])
    @pytest.mark.parametrize(("name", "classes"), [("surface_all", None), ("surface_fg123", [1, 2, 3])])
    def test_boundary_distance(self, references, shape, case, name, classes):
        key = f"{shape}/{case}"
        p = references.probabilities(key)
        target = references.target(key)
        value, gradient = value_and_gradient(losses.BoundaryDistance(classes), as_logits(p), target)
        assert value.item() == pytest.approx(references.value(key, name), rel=1e-5, abs=1e-5)
        if case in SMOOTH_CASES and f"{key}/{name}/grad" in references.arrays:
            assert_same_gradient(gradient, through_softmax(references.gradient(key, name), p))
