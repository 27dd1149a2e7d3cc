"""Each transform is tried before anything trains: one that would spoil images, labels or batches is named."""

import random
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import torch

from seglab.audit.audit import audit
from seglab.data.augment.probe import faults
from seglab.labels import VOID
from tests.test_data import make, problems

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 24, 3)).astype(np.uint8)
GOOD = [
    A.HorizontalFlip(p=0.5),
    A.Rotate(fill_mask=VOID, p=0.5),
    A.OneOf([A.Affine(fill_mask=VOID), A.ElasticTransform(fill_mask=VOID), A.GridDropout(fill_mask=VOID)], p=0.9),
    A.RandomBrightnessContrast(),
    A.CoarseDropout(),
    A.Sequential([A.PadIfNeeded(40, 40, fill_mask=VOID), A.RandomCrop(20, 24, fill_mask=VOID)]),
    A.GaussNoise(),
    A.ToGray(),
]


def test_bands_of_any_depth_keep_their_values() -> None:
    for kind in (np.uint16, np.int16, np.float32):
        image = np.random.default_rng(0).integers(2, 9000, (20, 20, 5)).astype(kind)
        assert faults([A.D4(), A.RandomCrop(16, 16)], image, one_size=True) == []
    (line,) = faults([A.RandomBrightnessContrast(), A.D4()], image[..., :3], one_size=True)
    assert line.startswith("augment RandomBrightnessContrast: cuts floats to 0..1")
    (line,) = faults([A.ToFloat(max_value=9000)], image.astype(np.uint16), one_size=True)
    assert line.startswith("augment ToFloat: makes the image float32, accepted is uint16")


def test_transforms_that_keep_labels_pass() -> None:
    assert faults(GOOD, IMAGE, one_size=True) == []
    assert faults([], IMAGE, one_size=True) == []
    assert faults([A.RandomRotate90()], IMAGE[:20, :20], one_size=True) == []
    assert faults([A.RandomResizedCrop((16, 16), p=1)], IMAGE, one_size=True) == []
    assert faults([A.RandomScale(p=0.5), A.Resize(16, 16)], IMAGE, one_size=True) == []
    assert faults([A.Normalize(p=0)], IMAGE, one_size=True) == []


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (A.Normalize(), "augment Normalize: makes the image float32, accepted is uint8: models scale and normalise"),
        (A.Normalize(p=0.01), "augment Normalize: "),
        (A.OneOf([A.HorizontalFlip(), A.ToFloat()]), "augment ToFloat: makes the image float32"),
        (A.FromFloat(), "augment FromFloat: "),
        (A.ToTensorV2(), "augment ToTensorV2: makes the image a Tensor, accepted is uint8"),
        (A.ToGray(num_output_channels=1, p=1), "augment ToGray: makes the image [20, 24], accepted is [H, W, 3]"),
        (A.Morphological(p=0.1), "augment Morphological: changes what labels hold, accepted are their own values"),
        (A.CenterCrop(30, 30), "augment CenterCrop: fails on an image of 24x20: "),
        (A.Mosaic(fill_mask=VOID), "augment Mosaic: fails on an image of 24x20: "),
        (A.RandomRotate90(), "augment RandomRotate90: makes images of several sizes (height x width 20x24, 24x20)"),
        (A.Transpose(p=0.02), "augment Transpose: makes images of several sizes"),
        (A.RandomScale(), "augment RandomScale: makes images of several sizes"),
        (
            A.RandomCrop(16, 16, p=0.5),
            "augment RandomCrop: makes images of several sizes (height x width 16x16, 20x24)",
        ),
    ],
)
def test_transforms_that_spoil_are_named(transform: A.BasicTransform, said: str) -> None:
    (line,) = faults([A.VerticalFlip(), transform], IMAGE, one_size=True)
    assert line.startswith(said) and "\n" not in line


def test_a_large_image_is_tried_by_its_corner_and_judged_as_a_whole() -> None:
    large = np.zeros((2048, 2050, 3), np.uint8)
    assert faults([A.HorizontalFlip()], large, one_size=True) == []
    assert faults([A.CenterCrop(2000, 2000, fill_mask=VOID)], large, one_size=True) == []
    (said,) = faults([A.Transpose()], large, one_size=True)
    assert "(height x width 2048x2050, 2050x2048)" in said
    assert faults([A.Transpose()], large[:, :2048], one_size=True) == []


def test_sizes_may_differ_where_a_crop_or_single_images_follow(root: Path) -> None:
    turning = [A.RandomRotate90(p=0.5)]
    (said,) = problems(root, augment=turning)
    assert said.startswith("augment RandomRotate90: ") and "set data.crop" in said
    make(root, augment=turning, crop=16).setup()
    make(root, augment=turning, batch_size=1).setup()
    make(root, augment=turning, size=16).setup()


def test_the_audit_says_it_too(root: Path) -> None:
    turning = "data.augment=[{_target_: albumentations.RandomRotate90}]"
    assert list(audit([f"data.root={root}", turning]).faults) == problems(
        root, augment=[A.RandomRotate90()], batch_size=8
    )
    assert list(audit([f"data.root={root}", turning, "data.size=16"]).faults) == []


def test_the_trial_draws_nothing_that_a_training_would_draw(root: Path) -> None:
    def states() -> list:
        return [str(np.random.get_state()), str(random.getstate()), str(torch.get_rng_state().tolist())]

    before = states()
    tried = make(root, augment=GOOD, crop=16)
    tried.setup()
    assert states() == before
    untried = make(root, augment=GOOD, crop=16)
    for index in range(10):
        image, mask = untried.cache[index]
        for got, want in zip(
            tried.augmentation(image, mask, 0, 1, index), untried.augmentation(image, mask, 0, 1, index), strict=True
        ):
            assert np.array_equal(got, want)
    assert [t.p for t in GOOD] == [0.5, 0.5, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5]
