"""Draws that only move pixels: told without reading one, they give bit for bit what albumentations makes of them."""

import albumentations as A
import cv2
import numpy as np
import pytest

from seglab.data.augment.draws import only_moves
from seglab.data.augment.patch import FLIPPED, TRANSPOSED, Patch
from seglab.data.augment.transforms import Augmentation
from seglab.labels import VOID

SIZES = [(24, 24), (31, 18), (16, 40), (1, 7), (9, 9)]
KINDS = [("u1", 3), ("u1", 1), ("u2", 4), ("f4", 8), ("f4", 3), ("u2", 5), ("i2", 2), ("u1", 7)]
DEFAULT = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5), A.RandomRotate90(p=0.5)]
PAD = {"fill": 0, "fill_mask": VOID}
MOVING: dict[str, tuple[list, int | tuple[int, int] | None]] = {
    "default": (DEFAULT, None),
    "default, crop": (DEFAULT, 16),
    "crop alone": ([], (13, 20)),
    "turned": ([A.D4(p=0.7), A.Transpose(p=0.3), A.SquareSymmetry(p=0.4), A.NoOp()], None),
    "rarely": ([A.HorizontalFlip(p=0.1), A.VerticalFlip(p=0.9), A.RandomRotate90(p=0.8), A.D4(p=1)], (11, 7)),
    "of several": ([A.OneOf([A.HorizontalFlip(p=0.2), A.OneOf([A.D4(), A.Transpose()], p=1)], p=0.8)], None),
    "some of": ([A.SomeOf([A.HorizontalFlip(), A.VerticalFlip(), A.RandomRotate90(p=1)], n=2, p=0.9)], 12),
    "in any order": ([A.RandomOrder([A.D4(p=1), A.Transpose(), A.HorizontalFlip(p=1)], n=3, p=1)], (40, 40)),
    "nested": (
        [
            A.Sequential([A.D4(), A.Compose([A.Transpose(), A.HorizontalFlip()], p=0.6)], p=0.7),
            A.OneOrOther(A.VerticalFlip(), A.D4()),
        ],
        (8, 30),
    ),
    "crops of crops": (
        [
            A.RandomCropFromBorders(0.2, 0.3, 0.1, 0.2, p=0.8),
            A.RandomRotate90(),
            A.CenterCrop(9, 9, True, **PAD),
            A.D4(),
        ],
        (12, 11),
    ),
    "padded": (
        [
            A.PadIfNeeded(30, 25, p=0.5, position="random", **PAD),
            A.D4(),
            A.Pad((1, 2, 3, 4), p=0.5, **PAD),
            A.Transpose(),
        ],
        (33, 20),
    ),
    "padded at random": ([A.RandomCrop(20, 20, True, "random", p=0.7, **PAD), A.D4()], (22, 22)),
    "all padding": ([A.Pad((0, 0, 60, 0), p=0.9, **PAD)], (5, 5)),
}


@pytest.mark.parametrize("name", MOVING)
def test_a_patch_is_what_albumentations_makes_of_the_pixels(name: str) -> None:
    transforms, crop = MOVING[name]
    augmentation = Augmentation(transforms, (crop, crop) if isinstance(crop, int) else crop)
    assert augmentation.only_moves
    rng = np.random.default_rng(0)
    seen = set()
    for number in range(160):
        (height, width), (kind, bands) = SIZES[number % len(SIZES)], KINDS[number % len(KINDS)]
        scene = rng.integers(0, 250, (height + 5, width + 4, bands)).astype(kind)
        label = rng.integers(0, 4, scene.shape[:2]).astype(np.uint8)
        window = Patch.of(number % 6, number % 5, height, width)  # what lies around it is not its own
        image, mask = augmentation(scene[window.slices], label[window.slices], 3, number % 7, number)
        patch = augmentation.draw(window, 3, number % 7, number)
        assert patch.shape == mask.shape
        for pixels, wanted, fill in ((scene, image, 0), (label, mask, VOID)):
            got = patch.of_pixels(pixels, fill)
            assert got.dtype == wanted.dtype and got.shape == wanted.shape and got.tobytes() == wanted.tobytes()
            assert got.flags.c_contiguous and got.flags.writeable and not np.shares_memory(got, pixels)
            assert gathered(patch, pixels, fill).tobytes() == wanted.tobytes()
        seen.add(patch.corners)
    assert len(seen) > 2 or not transforms or name == "all padding"


@pytest.mark.parametrize("pixel", [*sorted(TRANSPOSED), 5, 36, FLIPPED[-1], FLIPPED[-1] + 1, 512])
def test_pixels_of_any_number_of_bytes_are_turned(pixel: int) -> None:
    kind = "f4" if pixel % 4 == 0 else "u1"
    image = np.random.default_rng(0).integers(0, 250, (6, 4, pixel // np.dtype(kind).itemsize)).astype(kind)
    for corners in (
        (0, 1, 2, 3),
        (1, 0, 3, 2),
        (2, 3, 0, 1),
        (3, 2, 1, 0),
        (0, 2, 1, 3),
        (3, 1, 2, 0),
        (2, 0, 3, 1),
        (1, 3, 0, 2),
    ):
        patch = Patch.of(1, 1, 5, 3).turned(corners)
        got = patch.of_pixels(image, 0)
        assert got.dtype == image.dtype and got.flags.c_contiguous and (got == gathered(patch, image, 0)).all()


def gathered(patch: Patch, pixels: np.ndarray, fill: int) -> np.ndarray:
    """What is seen, pixel by pixel, of a flat image."""
    start, by_row, by_column, top, left, bottom, right = patch.steps(pixels.shape[1])
    flat = pixels.reshape(-1, *pixels.shape[2:])
    out = np.full((*patch.shape, *pixels.shape[2:]), fill, pixels.dtype)
    for y in range(max(0, top), bottom):
        for x in range(max(0, left), right):
            out[y, x] = flat[start + y * by_row + x * by_column]
    return out


class Mine(A.HorizontalFlip):
    """It may do more than its base."""


@pytest.mark.parametrize(
    "transform",
    [
        A.RandomBrightnessContrast(),
        A.Affine(fill_mask=VOID),
        A.RandomGridShuffle(),
        A.RandomResizedCrop((8, 8)),
        A.CropNonEmptyMaskIfExists(8, 8),
        A.OneOf([A.D4(), A.GaussNoise()]),
        A.Sequential([A.Compose([A.D4(), A.OneOf([A.Rotate(fill_mask=VOID)])])]),
        A.SelectiveChannelTransform([A.HorizontalFlip()]),
        A.RandomCrop(8, 8, True, fill=1, fill_mask=VOID),
        A.PadIfNeeded(8, 8, border_mode=cv2.BORDER_REFLECT, fill_mask=VOID),
        Mine(),
    ],
    ids=lambda t: type(t).__name__,
)
def test_whatever_does_more_is_left_to_albumentations(transform: A.BasicTransform) -> None:
    assert not only_moves(transform)
    assert not Augmentation([A.D4(), transform], (8, 8)).only_moves
    assert only_moves(A.RandomCrop(8, 8, fill_mask=3)), "without padding nothing is filled"


def test_a_draw_leaves_the_transforms_of_the_user_alone() -> None:
    image, mask = np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9), np.uint8)
    augmentation = Augmentation(DEFAULT, None)
    augmentation.draw(Patch.of(0, 0, 8, 9), 0, 0, 0)
    assert A.Compose(DEFAULT, seed=1)(image=image, mask=mask)["image"].shape[2] == 3
    assert Augmentation([], None).draw(Patch.of(0, 0, 8, 9), 0, 0, 0) == Patch.of(0, 0, 8, 9)
