"""`per_image=true` in every loss that has it: the mean over the images, each over its own classes."""

import pytest
import segmentation_models_pytorch as smp
import torch
from test_losses import example, value_and_gradient

from seglab import losses
from seglab.labels import one_hot
from seglab.losses.reduction import mean_of_groups

PER_IMAGE = {
    "dice": losses.Dice(per_image=True),
    "dice in one": losses.Dice(per_image=True, per_class=False),
    "jaccard": losses.Jaccard(squared=True, per_image=True),
    "tversky": losses.Tversky(gamma=2.0, per_image=True),
    "lovasz": losses.Lovasz(per_image=True),
    "lovasz_sorted": losses.LovaszSorted(per_image=True),
    "boundary": losses.Boundary(per_image=True),
}


@pytest.mark.parametrize("loss", PER_IMAGE.values(), ids=PER_IMAGE)
def test_per_image_is_the_mean_over_the_images(loss):
    """Each image counts the same, however many classes it has; one that is all VOID does not count."""
    logits, target, _ = example(batch=4, void=False)
    target[0] = one_hot(torch.arange(9 * 7).view(1, 9, 7) // 32, 4)  # two classes
    target[3] = 0
    each = [loss(logits[b : b + 1], target[b : b + 1]).item() for b in range(3)]
    assert min(each) > 0 and max(each) - min(each) > 1e-3
    assert loss(logits, target).item() == pytest.approx(sum(each) / 3, rel=1e-6)
    assert loss(logits[3:], target[3:]) == 0
    assert loss(logits[:0], target[:0]) == 0


@pytest.mark.parametrize("per_image", [True, False])
def test_lovasz_of_images_of_one_and_of_four_classes_is_that_of_smp(per_image: bool):
    logits, target, _ = example(void=False, height=16, width=16)
    target[0] = one_hot(torch.full((1, 16, 16), 2), 4)
    theirs = smp.losses.LovaszLoss("multiclass", per_image=per_image)
    value, gradient = value_and_gradient(losses.Lovasz(per_image), logits, target)
    expected, wanted = value_and_gradient(lambda x, t: theirs(x, t.argmax(1)), logits, target)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-8)


def test_means_by_hand():
    """Two images of one and of two classes, and one of none: (1 + (2 + 4) / 2) / 2."""
    values = torch.tensor([[1.0, 9.0], [2.0, 4.0], [9.0, 9.0]])
    present = torch.tensor([[True, False], [True, True], [False, False]])
    assert mean_of_groups(values, present) == 2
