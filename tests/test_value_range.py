"""The range of values that a network scales: percentiles by hand, and a network that keeps it."""

import logging

import numpy as np
import pytest
import torch

from seglab.data import value_range
from seglab.data.kept.image_set import ImageSet
from seglab.data.value_range import given_range, percentile_range
from seglab.labels import VOID
from seglab.models.network import IMAGENET_MEAN, IMAGENET_STD
from seglab.models.unet import UNet
from seglab.pages.pictures import preview


class Held(ImageSet):
    """Samples as a cache gives them."""

    def __init__(self, *samples: tuple[np.ndarray, np.ndarray]):
        self.samples = samples
        self.sizes = [(mask.shape[0], mask.shape[1]) for _, mask in samples]
        self.dtype, self.bands = samples[0][0].dtype, samples[0][0].shape[2]

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        return self.samples[i]


def held(kind: str, count: int = 3, bands: int = 2) -> Held:
    rng = np.random.default_rng(0)
    most = 200 if kind == "uint8" else 30000
    made = [rng.integers(0, most, (7, 9, bands)).astype(kind) for _ in range(count)]
    if kind in ("int16", "float32"):
        made = [values - np.array(9000, kind) for values in made]
    return Held(*((values, rng.choice([0, 1, VOID], values.shape[:2]).astype(np.uint8)) for values in made))


def test_percentiles_by_hand() -> None:
    values = np.array([[10, 20, 30, 40, 50, 9]], np.uint16)[..., None]
    cache = Held((values, np.array([[0, 1, 1, 0, 0, VOID]], np.uint8)))
    low, high = percentile_range(cache, [0], [0, 100])
    assert (low.tolist(), high.tolist()) == ([10], [50])
    low, high = percentile_range(cache, [0], [10, 75])  # of 5 values the ranks 0.4 and 3
    assert (low.tolist(), high.tolist()) == ([14], [40])


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "float32"])
def test_percentiles_are_those_of_numpy_over_pixels_with_a_class(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_range, "ROWS", 20)  # several parts of each image
    cache = held(kind)
    pixels = np.concatenate([cache[i][0][cache[i][1] != VOID] for i in (0, 2)]).astype(np.float64)
    want = np.percentile(pixels, [2, 98], axis=0)
    found = percentile_range(cache, [0, 2], [2, 98])
    assert found[0].dtype == np.float32 and np.allclose(found, want, rtol=1e-6)


def test_of_many_floats_every_nth_pixel_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = held("float32", bands=1)
    monkeypatch.setattr(value_range, "EXACT", 63)  # of 126 pixels
    parts = [cache[i][0].ravel()[::2][cache[i][1].ravel()[::2] != VOID] for i in (0, 1)]
    want = np.percentile(np.concatenate(parts).astype(np.float64), [5, 95])
    assert np.allclose(np.ravel(percentile_range(cache, [0, 1], [5, 95])), want)


def test_a_band_of_one_value_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    flat = Held((np.full((3, 3, 1), 7, np.uint16), np.zeros((3, 3), np.uint8)))
    with caplog.at_level(logging.WARNING):
        assert percentile_range(flat, [0], [2, 98])[0].tolist() == [7]
    assert "band 1 of the images: its percentiles 2 and 98 are both 7" in caplog.text


def test_a_given_range_is_for_all_bands_or_for_each() -> None:
    assert given_range(None, 2) is None
    assert np.transpose(given_range([0, 9], 2)).tolist() == [[0, 9], [0, 9]]
    assert np.transpose(given_range([[0, 9], [-1, 4.5]], 2)).tolist() == [[0, 9], [-1, 4.5]]
    for wrong in ([1], [[0, 1]], [[0, 1], [2]], [0, float("nan")], [5, 5]):
        with pytest.raises(ValueError, match=r"data.value_range=.*accepted is null, \[low, high\]"):
            given_range(wrong, 2)


def test_values_are_clamped_to_their_range_and_normalised_like_colours() -> None:
    net = UNet(2, min_kernel_num=2, depth=1, in_channels=4).take_rasters(4)
    assert net.bands == 4 and {"low", "high"} <= set(net.state_dict())
    net.set_value_range([100, 0, 0, 5], [300, 1, 1, 5])
    image = torch.tensor([200.0, -3.0, 9.0, 5.0]).view(1, 4, 1, 1)
    want = [(unit - IMAGENET_MEAN[i % 3]) / IMAGENET_STD[i % 3] for i, unit in enumerate([0.5, 0, 1, 0])]
    assert net.normalised(image).flatten().tolist() == pytest.approx(want, abs=1e-6)


def test_rgb_of_8_bits_is_scaled_as_it_always_was() -> None:
    net = UNet(2, min_kernel_num=2, depth=1)
    assert not {"low", "high", "scale", "shift"} & set(net.state_dict())
    image = torch.arange(12.0).view(1, 3, 2, 2)
    scale, shift = (v.view(3, 1, 1) for v in (net.scale.flatten(), net.shift.flatten()))
    assert torch.equal(net.normalised(image), torch.addcmul(shift, image, scale))
    want = [(v / 255 - IMAGENET_MEAN[c]) / IMAGENET_STD[c] for c in range(3) for v in range(4 * c, 4 * c + 4)]
    assert net.normalised(image).flatten().tolist() == pytest.approx(want, abs=1e-5)


def test_a_preview_is_rgb_of_any_bands() -> None:
    values = np.array([[[0, 50, 100, 9], [100, 150, 300, 9]]], np.uint16)
    span = np.array([0, 100, 100, 0], np.float32), np.array([200, 200, 200, 9], np.float32)
    assert preview(values, span).tolist() == [[[0, 0, 0], [128, 128, 255]]]
    assert preview(values[..., :2], span).tolist() == [[[0, 0, 0], [128, 128, 128]]]
    small = values.astype(np.uint8)
    assert (preview(small) == small[..., :3]).all() and preview(small[..., 1:2])[0, 1].tolist() == [150, 150, 150]
    own = preview(np.linspace(1, 1000, 300, dtype=np.float32).reshape(10, 10, 3))
    assert own.dtype == np.uint8 and own.min() == 0 and own.max() == 255
    assert preview(np.zeros((4, 4, 1), np.float32)).tolist() == np.zeros((4, 4, 3)).tolist()
