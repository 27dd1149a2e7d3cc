"""The options that give the losses of torch, torchvision and smp, as installed: the same value and gradient."""

from collections.abc import Callable

import pytest
import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.losses._functional import softmax_focal_loss_with_logits
from test_losses import example, value_and_gradient
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from seglab import losses
from seglab.labels import VOID

WEIGHTS = [0.5, 2.0, 0.25, 1.0]


def of_indices(peer: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """`peer` of logits and an index map, called with a one-hot target."""
    return lambda logits, target: peer(logits, target.argmax(1).where(target.any(1), VOID))


def of_valid(peer: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """`peer` of logits and one-hot target `[P,K]`, called without the VOID pixels."""

    def called(logits: Tensor, target: Tensor) -> Tensor:
        valid = target.any(1)
        return peer(logits.movedim(1, -1)[valid], target.movedim(1, -1)[valid])

    return called


def of_smp(name: str, **arguments: float) -> Callable[[Tensor, Tensor], Tensor]:
    return of_indices(getattr(smp.losses, name)("multiclass", ignore_index=VOID, **arguments))


def focal_of_torchvision(alpha: float) -> Callable[[Tensor, Tensor], Tensor]:
    return of_valid(lambda x, t: sigmoid_focal_loss(x, t, alpha=alpha, gamma=1.5, reduction="mean"))


PEERS = {
    "torch cross-entropy": (losses.CrossEntropy(), of_indices(nn.CrossEntropyLoss(ignore_index=VOID))),
    "torch weighted cross-entropy": (
        losses.CrossEntropy(WEIGHTS),
        of_indices(nn.CrossEntropyLoss(torch.tensor(WEIGHTS), ignore_index=VOID)),
    ),
    "torch binary cross-entropy": (losses.BinaryCrossEntropy(), of_valid(nn.BCEWithLogitsLoss())),
    "torchvision focal": (losses.FocalSigmoid(1.5, 0.25), focal_of_torchvision(0.25)),
    "torchvision focal without alpha": (losses.FocalSigmoid(1.5), focal_of_torchvision(-1)),
    "smp focal": (losses.FocalSigmoid(2.0, 0.25), of_smp("FocalLoss", alpha=0.25, gamma=2.0)),
    "smp softmax focal": (
        losses.Focal(gamma=2.0),
        of_valid(lambda x, t: softmax_focal_loss_with_logits(x, t.argmax(1), gamma=2.0)),
    ),
    "smp Dice": (losses.Dice(), of_smp("DiceLoss")),
    "smp Dice, smooth": (losses.Dice(smooth=1.0), of_smp("DiceLoss", smooth=1.0)),
    "smp Jaccard": (losses.Jaccard(), of_smp("JaccardLoss")),
    "smp Jaccard, smooth": (losses.Jaccard(smooth=1.0), of_smp("JaccardLoss", smooth=1.0)),
    "smp Tversky": (losses.Tversky(0.2, 0.9), of_smp("TverskyLoss", alpha=0.2, beta=0.9)),
    "smp Tversky, smooth": (
        losses.Tversky(0.2, 0.9, smooth=1.0),
        of_smp("TverskyLoss", alpha=0.2, beta=0.9, smooth=1.0),
    ),
    "smp Lovász": (losses.Lovasz(), of_smp("LovaszLoss")),
    "smp Lovász by image": (losses.Lovasz(per_image=True), of_smp("LovaszLoss", per_image=True)),
    "smp Lovász, sorted": (losses.LovaszSorted(), of_smp("LovaszLoss")),
}


@pytest.mark.parametrize(("ours", "theirs"), PEERS.values(), ids=PEERS)
@pytest.mark.parametrize("void", [False, True])
def test_ours_is_theirs(ours: nn.Module, theirs: nn.Module, void: bool):
    logits, target, _ = example(height=24, width=20, void=void)
    value, gradient = value_and_gradient(ours, logits, target)
    expected, wanted = value_and_gradient(theirs, logits, target)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-8)
