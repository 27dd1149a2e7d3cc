"""Traps of the original: by hand on small cases, and against what its own code gave."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from findings import network_traps, traps
from seglab.data.synthetic import draw_scene
from seglab.labels import one_hot
from seglab.losses import CrossEntropy, Focal, OriginalFocal
from seglab.models import parameter_table
from seglab.models.deeplabv3plus import DeepLabV3Plus

CASES = ["random", "near", "absent", "single", "perfect", "allwrong", "uniform"]


def first_channels(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, -1, 1)


@pytest.fixture(scope="module")
def label() -> np.ndarray:
    return draw_scene(0, 0, 64, 64)[1]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", ["A", "B"])
def test_keras_metric_as_keras_gave_it(shared: Path, shape: str, case: str) -> None:
    golden = np.load(shared / "golden" / "original_losses.npz")
    labels = golden[f"{shape}/{case}/labels"]
    target = np.eye(4)[labels]
    rebuilt = {"perfect": target, "allwrong": np.roll(target, 1, -1), "uniform": np.full_like(target, 0.25)}
    p = rebuilt[case] if case in rebuilt else golden[f"{shape}/{case}/probs"]
    theirs = float(golden[f"{shape}/{case}/keras_MeanIoU_onehot_probs/value"])
    assert traps.keras_mean_iou(first_channels(target), first_channels(p)) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize(("num_classes", "stuck"), [(2, 1 / 4), (4, 3 / 8), (5, 2 / 5)])
def test_keras_metric_of_any_unsure_map(num_classes: int, stuck: float) -> None:
    """Class 0 is all that is predicted: it is right where the one-hot target is 0, in K - 1 of K numbers."""
    target = np.eye(num_classes)[np.arange(num_classes)][None].reshape(1, num_classes, num_classes, 1)
    for p in (0.9 * target, 0.9 * np.roll(target, 1, 1)):
        assert traps.keras_mean_iou(target, p) == pytest.approx(stuck)
    assert traps.mean_iou(target, 0.9 * target) == 1
    assert traps.mean_iou(target, 0.9 * np.roll(target, 1, 1)) == 0


@pytest.mark.parametrize("right", [0, 1, 13, 25])
def test_keras_metric_of_a_sure_map_is_a_function_of_accuracy(right: int) -> None:
    labels = np.arange(25) % 4
    guessed = np.where(np.arange(25) < right, labels, (labels + 1) % 4)
    target, p = (np.eye(4)[array].T[None] for array in (labels, guessed))
    assert traps.keras_mean_iou(target, p) == pytest.approx(traps.saturated_keras_mean_iou(right / 25))
    assert traps.saturated_keras_mean_iou(0.538) == pytest.approx(0.551, abs=5e-4)


def test_stuck_metric_moves_where_probabilities_are_rounded_to_1(label: np.ndarray) -> None:
    rows = traps.stuck_metric(label, [0, 1, 2, 4, 60])
    assert [row.keras for row in rows] == [0.375] * 4 + [1]
    assert [row.saturated for row in rows] == [0] * 4 + [1]
    today = [row.today for row in rows]
    assert today == sorted(set(today)) and today[0] < 0.2 and today[3] > 0.9


def test_gradient_shares_by_hand() -> None:
    """Two rows, one column, two classes of equal logits: the gradient of a pixel by them is c (1, -1), any sign."""
    logits = torch.zeros(1, 2, 2, 1)
    logits[0, 0, 1] = 2  # the second pixel is surer of class 0, which both have: the first is the largest of the column
    target = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 2, 1)
    first = torch.tensor([True, False]).view(1, 2, 1)
    assert traps.gradient_shares(OriginalFocal(), logits, target, first) == (0.5, 1)
    assert traps.gradient_shares(OriginalFocal(), logits, target, ~first) == (0.5, 0)
    # cross-entropy: 1 - p of the true class, 1/2 and 1 / (1 + e^2)
    reached, on_first = traps.gradient_shares(CrossEntropy(), logits, target, first)
    assert reached == 1
    assert on_first == pytest.approx(0.5 / (0.5 + 1 / (1 + np.exp(2))))


def test_focal_of_the_largest_follows_bad_labels(label: np.ndarray) -> None:
    shares = traps.focal_gradients(label)
    assert shares["original"].reached <= 4 / 64  # one pixel of each column for each class
    assert shares["today"].reached == 1
    assert shares["original"].on_bad > 3 * shares["today"].on_bad > 0.02


def test_spoilt_pixels_have_another_class() -> None:
    mask = torch.arange(4, dtype=torch.uint8).repeat(2, 50, 1)
    changed, bad = traps.spoilt(mask, 0.1, 4)
    assert bad.sum() == 40
    assert torch.equal(changed != mask, bad)
    assert changed.max() < 4


def test_bilinear_labels_by_hand() -> None:
    """Three pixels on two: both ends are kept. Four on three: positions 0, 1.5, 3."""
    rows = np.array([[0, 3, 1]] * 3, np.uint8)
    shares = traps.resampled_labels(rows, 2)
    assert shares["bilinear"] == shares["nearest"] == (0.5, 0)  # the second column is the third of the label
    rows = np.array([[0, 0, 3, 3]] * 4, np.uint8)
    shares = traps.resampled_labels(rows, 3)
    assert shares["bilinear"] == (pytest.approx(1 / 3), pytest.approx(1 / 3))  # 0, 1.5 cut to 1, 3 for 0, 0, 3
    assert shares["nearest"].invented == 0
    assert shares["cropped"] == (0, 0)
    with pytest.raises(ValueError, match="more than 4 pixels both ways"):
        traps.resampled_labels(rows, 4)


def test_bilinear_labels_of_a_scene(label: np.ndarray) -> None:
    shares = traps.resampled_labels(label, 63)
    assert shares["bilinear"].changed > shares["bilinear"].invented > 0
    assert shares["nearest"].invented == 0 and shares["cropped"] == (0, 0)
    same = traps.resampled_labels(np.full((9, 9), 3, np.uint8), 8)  # no rounding below the class itself
    assert set(same.values()) == {(0, 0)}


def test_float16_softmax_has_no_finite_gradient_where_it_is_wrong() -> None:
    for row in traps.half_precision_gradients():
        assert row.total == 256
        assert (row.not_finite > 128) == (row.softmax == "float16")
        assert row.not_finite in (0, 256 - row.zero)


def test_kept_share() -> None:
    assert network_traps.kept_share(0.999, 450) == pytest.approx(0.6375, abs=5e-5)
    assert network_traps.kept_share(0.5, 3) == 0.125


@pytest.fixture(scope="module")
def batches() -> network_traps.Batches:
    return network_traps.batches_of([draw_scene(0, i, 32, 32) for i in range(4)], 2)


@pytest.fixture(scope="module")
def net() -> DeepLabV3Plus:
    torch.manual_seed(0)
    return DeepLabV3Plus(4)


def first_means(net: DeepLabV3Plus, batches: network_traps.Batches) -> Iterator[torch.Tensor]:
    """Mean of each channel before the first batch norm, of each batch."""
    (conv, *_) = [module for module in net.encoder.modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        yield from (conv(net.normalised(image)).mean((0, 2, 3)) for image, _ in batches)


def test_statistics_keep_a_share_and_are_estimated_again(net: DeepLabV3Plus, batches: network_traps.Batches) -> None:
    means = list(first_means(net, batches))
    norm = network_traps.batch_norms(net)[0]
    norm.running_mean.fill_(1)
    network_traps.set_momentum(net, 0.001)
    network_traps.train(net, batches[:1], 5, 0.0, CrossEntropy())  # no step changes a weight
    kept = network_traps.kept_share(0.999, 5)
    torch.testing.assert_close(norm.running_mean, kept + (1 - kept) * means[0])
    before = {name: value.clone() for name, value in net.state_dict().items()}
    again = network_traps.batch_norms(network_traps.re_estimated(net, batches))[0]
    torch.testing.assert_close(again.running_mean, (means[0] + means[1]) / 2)
    network_traps.score(network_traps.by_batch_statistics(net), batches)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_lagging_batch_norm_is_seen_in_maps_alone(batches: network_traps.Batches) -> None:
    scenes = [draw_scene(0, i, 32, 32) for i in range(4)]
    state = torch.get_rng_state()
    scores = network_traps.lagging_batch_norm(scenes, steps=8, batch_size=4)
    assert torch.equal(torch.get_rng_state(), state)
    original, today = scores["original"], scores["today"]
    assert original.as_map < min(original.of_batch, original.re_estimated)
    assert original.as_map < today.as_map
    with pytest.raises(ValueError, match="3 scenes, batch_size 2: expected full batches"):
        network_traps.batches_of(scenes[:3], 2)


def test_dead_outputs_by_hand(batches: network_traps.Batches) -> None:
    net = network_traps.tiny_unet(0, activation=True)
    head = net.net.segmentation_head
    nn.init.zeros_(head.weight)
    head.bias.data = torch.tensor([-1.0, -1.0, -1.0, 1.0])
    assert network_traps.without_gradient(net, batches, network_traps.of_rectified) == (0, 3 / 4)
    assert network_traps.without_gradient(net, batches, CrossEntropy()) == (0, 0)
    head.bias.data -= 2
    assert network_traps.without_gradient(net, batches, network_traps.of_rectified) == (1, 1)
    assert network_traps.without_gradient(net, batches, CrossEntropy()) == (0, 0)
    assert network_traps.without_gradient(net, batches, network_traps.clipped_binary_cross_entropy) == (1, 1)


def test_dead_outputs_of_short_trainings() -> None:
    scenes = [draw_scene(0, i, 16, 16) for i in range(2)]
    shares = network_traps.dead_outputs(scenes, range(3), steps=20, learning_rate=0.05)
    assert shares["linear_logits"] == (0, 0)
    assert shares["relu_on_logits"].outputs > 0
    assert shares["no_softmax"].networks > 0
    layers = {type(m) for m in network_traps.tiny_unet(0, activation=False).modules()}
    assert nn.ReLU not in layers


def test_parameters_of_the_original_and_of_the_model(net: DeepLabV3Plus) -> None:
    counts = network_traps.parameter_counts()
    assert sum(part.original for part in counts.values()) == 8_069_188
    assert counts["atrous"].original + counts["pyramid"].original == 7_397_376
    running = sum(2 * norm.num_features for norm in network_traps.batch_norms(net))
    assert sum(part.today for part in counts.values()) == sum(parameter_table(net).values()) + running
    # three depthwise 3x3 kernels of 1280 channels, each before a 1x1 convolution to 256
    assert counts["atrous"].today == 3 * (9 * 1280 + 1280 * 256)
    assert counts["head"].today == parameter_table(net)["head"]


def test_focal_is_the_originals_but_for_the_largest() -> None:
    """With one row in the image and one class in each pixel, the mean over classes is all that differs."""
    mask = torch.tensor([[[0, 1, 2, 3, 1]]], dtype=torch.uint8)
    logits = traps.plausible_logits(mask, 4, 1.0)
    target = one_hot(mask, 4)
    today = Focal(alpha=[0.25] * 4)(logits, target).item()
    assert 4 * OriginalFocal()(logits, target).item() == pytest.approx(today, rel=1e-5)


def test_the_log_of_raw_outputs_is_no_number() -> None:
    mask = np.array([[0, 1], [2, 3]], np.uint8)
    found = traps.log_of_outputs(np.tile(mask, (16, 16)))
    assert 0.1 < found.negative < 0.9 and np.isnan(found.original) and 0 < found.today < 2


def test_a_label_of_three_equal_channels_can_not_be_met() -> None:
    mask = np.array([[0, 1], [2, 3]], np.uint8)
    target = np.repeat(mask[None].astype(float), 3, 0)  # [3,H,W]
    guesses = np.random.default_rng(0).dirichlet(np.ones(3), 2000)
    losses = [-(target * np.log(p)[:, None, None]).sum(0).mean() for p in [*guesses, np.full(3, 1 / 3)]]
    assert min(losses) == pytest.approx(traps.least_loss_of_equal_channels(mask)) == pytest.approx(1.5 * 3 * np.log(3))
