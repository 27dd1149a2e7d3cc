"""Tiles: a fixed grid, weights that add up to 1, and maps in which no seam shows."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seglab.data.files.pixels import Pixels
from seglab.data.files.rasters import Decoded
from seglab.maps.scoring import logits_of, predict, probabilities
from seglab.models.inference import for_inference
from seglab.models.network import Network
from seglab.models.unet import UNet
from seglab.models.unet_mobilenetv2 import UNetMobileNetV2
from seglab.predict.tiles import forward
from seglab.predict.tiles.tiling import Area, Tiling, tiled


def raster(height: int, width: int, hidden: np.ndarray | None = None) -> Decoded:
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3)), np.ones((8, 8, 1), int))
    return Decoded(Path("scene.png"), Pixels(blocks[:height, :width].astype(np.uint8), hidden, 1))


def unet(depth: int = 2) -> Network:
    torch.manual_seed(0)
    net = UNet(4, 4, depth)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
    nn.init.normal_(net.net.segmentation_head.bias)  # else dead pixels have all classes alike
    return for_inference(net)


def whole(nets, image, tiling, **options) -> tuple[np.ndarray, np.ndarray]:
    strips = list(tiled(nets, image, tiling, **options))
    tops = np.cumsum([strips[0].top, *(s.classes.shape[0] for s in strips)])
    assert [s.top for s in strips] == tops[:-1].tolist()
    return np.concatenate([s.scores for s in strips], 1), np.concatenate([s.classes for s in strips])


class Constant(Network):
    """The same logits everywhere."""

    def __init__(self) -> None:
        parts = {"encoder": nn.Conv2d(3, 1, 1), "decoder": nn.Identity(), "segmentation_head": nn.Identity()}
        super().__init__(nn.ModuleDict(parts), divisor=16)

    def forward(self, image: Tensor) -> Tensor:
        return torch.tensor([0.1, 0.7, 0.7 - 1e-6]).view(1, 3, 1, 1).expand(len(image), 3, *image.shape[2:]).clone()


@pytest.mark.parametrize("offset", [0, 16, 48])
@pytest.mark.parametrize("length", [1, 63, 64, 65, 112, 113, 200])
def test_the_grid_is_fixed_and_tiles_share_exactly_the_overlap(length: int, offset: int) -> None:
    spans = Tiling(64, 16, offset % 48).spans(length)
    assert spans[0].start == 0 and spans[-1].stop == length
    assert all(a.stop - b.start == 16 < b.stop - b.start for a, b in pairwise(spans))
    assert all(span.start % 16 == 0 and span.stop - span.start <= 64 for span in spans)
    longer = Tiling(64, 16, offset % 48).spans(1000)
    assert [s.start for s in spans] == [s.start for s in longer[: len(spans)]]


@pytest.mark.parametrize("wrong", [(64, 33, 0), (64, -1, 0), (64, 16, 48), (0, 0, 0)])
def test_a_grid_that_is_none_is_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="accepted"):
        Tiling(*wrong)


def test_tiles_that_the_divisor_does_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap 10: accepted are multiples of 4"):
        list(tiled([unet()], raster(50, 50), Tiling(32, 10)))


@pytest.mark.parametrize("tta", ["none", "flips", "d4"])
@pytest.mark.parametrize("overlap", [0, 16, 32])
def test_a_constant_model_gives_a_constant_map(overlap: int, tta: str) -> None:
    scores, classes = whole([Constant()], raster(150, 133), Tiling(64, overlap), tta=tta)
    assert classes.shape == (150, 133) and (classes == 1).all()
    assert np.abs(scores - np.exp([0.1, 0.7, 0.7])[:, None, None] / np.exp([0.1, 0.7, 0.7]).sum()).max() < 1e-6


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (63, 64), (37, 51)])
def test_a_scene_within_a_tile_is_one_forward_to_the_last_bit(size: tuple[int, int]) -> None:
    net = unet()
    image = raster(*size)
    scores, classes = whole([net], image, Tiling(64, 16))
    assert (classes == predict(net, image.pixels.values)).all()
    assert (scores == probabilities(net, image.pixels.values)).all()


@pytest.mark.parametrize("depth", [1, 2])
def test_no_tile_shows_and_no_grid_matters_where_the_overlap_holds_what_a_pixel_sees(depth: int) -> None:
    net = unet(depth)
    image = raster(211, 187)
    assert net.reach == {1: 9, 2: 23}[depth]
    reference = logits_of(net, image.pixels.values)[0].softmax(0).numpy()
    for tiling in (Tiling(96, 48), Tiling(96, 48, 20), Tiling(96, 48, 44), Tiling(128, 56, 16)):
        scores, classes = whole([net], image, tiling)
        assert np.abs(scores - reference).max() < 1e-5
        assert (classes == reference.argmax(0)).all()


def test_too_small_an_overlap_does_show() -> None:
    net = unet()
    image = raster(211, 187)
    reference = logits_of(net, image.pixels.values)[0].softmax(0).numpy()
    assert np.abs(whole([net], image, Tiling(96, 8))[0] - reference).max() > 1e-3


@pytest.mark.parametrize("area", [Area(0, 0, 1, 1), Area(40, 60, 90, 70), Area(150, 100, 37, 111), Area(0, 95, 187, 2)])
def test_a_part_is_that_part_of_the_whole(area: Area, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = [unet(), unet()]
    nn.init.normal_(nets[1].net.segmentation_head.weight)
    image = raster(211, 187)
    for tiling in (Tiling(64, 16), Tiling(64, 32, 8)):
        scores, classes = whole(nets, image, tiling)
        monkeypatch.setattr(forward, "READ_BYTES", 30_000)
        part, part_classes = whole(nets, image, tiling, area=area)
        here = np.s_[area.top : area.top + area.height, area.left : area.left + area.width]
        assert (part == scores[:, *here]).all() and (part_classes == classes[here]).all()


def test_the_scores_of_several_networks_are_the_mean_of_their_probabilities() -> None:
    nets = [unet(), unet(), unet()]
    nn.init.normal_(nets[1].net.segmentation_head.weight)
    each = [whole([net], raster(100, 90), Tiling(64, 16))[0] for net in nets]
    scores, classes = whole(nets, raster(100, 90), Tiling(64, 16))
    assert np.abs(scores - np.mean(each, 0)).max() < 1e-6 and (classes == scores.argmax(0)).all()


@pytest.mark.parametrize(("tta", "count"), [("flips", 4), ("d4", 8)])
def test_augmented_scores_turn_with_the_image(tta: str, count: int) -> None:
    assert len({*forward.TTA[tta]}) == count
    net = unet()
    image = raster(64, 64)
    turned = Decoded(image.path, Pixels(np.ascontiguousarray(image.pixels.values[::-1]), None, 1))
    tiling = Tiling(64, 16)
    assert np.abs(whole([net], image, tiling)[0][:, ::-1] - whole([net], turned, tiling)[0]).max() > 1e-3
    found = [whole([net], one, tiling, tta=tta)[0] for one in (image, turned)]
    assert np.abs(found[0][:, ::-1] - found[1]).max() < 1e-6


def test_what_is_hidden_is_told_and_tiles_of_nothing_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = np.zeros((150, 150), bool)
    hidden[:, :70] = True
    net = unet()
    seen = []
    forwarded = net.forward
    monkeypatch.setattr(net, "forward", lambda x: seen.append(x.shape[-1]) or forwarded(x))
    strips = list(tiled([net], raster(150, 150, hidden), Tiling(64, 16)))
    assert (np.concatenate([s.hidden for s in strips]) == hidden).all()
    assert sorted(seen) == [1, 1, 1, 54, 54, 54, 64, 64, 64]
    with_all = np.concatenate([s.scores for s in tiled([net], raster(150, 150), Tiling(64, 16))], 1)
    assert (np.concatenate([s.scores for s in strips], 1)[:, ~hidden] == with_all[:, ~hidden]).all()


def test_scores_that_are_no_numbers_and_windows_that_fail_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    net = unet()
    image = raster(150, 150)
    read = image.read

    def broken(top: int, left: int, height: int, width: int) -> Pixels:
        if top:
            raise ValueError("scene.png: a damaged file")
        return read(top, left, height, width)

    monkeypatch.setattr(image, "read", broken)
    with pytest.raises(ValueError, match=r"scene\.png: a damaged file \(in the window of .* from column 0, row 48\)"):
        list(tiled([net], image, Tiling(64, 16)))
    monkeypatch.undo()
    nn.init.constant_(net.net.segmentation_head.bias, float("inf"))
    with pytest.raises(ValueError, match=r"scene\.png: the scores of the window of 64x64 pixels .* are not finite"):
        list(tiled([net], image, Tiling(64, 16)))


def test_tiles_computed_together_are_those_computed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = np.zeros((150, 250), bool)
    hidden[:70, :170] = True
    image = raster(150, 250, hidden)
    alone = whole([unet()], image, Tiling(64, 16), tta="flips")
    seen = []
    net = unet()
    forwarded = net.forward
    monkeypatch.setattr(net, "forward", lambda x: seen.append(len(x)) or forwarded(x))
    monkeypatch.setattr(forward, "BATCHES", {"cpu": 4})
    together = whole([net], image, Tiling(64, 16), tta="flips")
    assert max(seen) == 4 and np.abs(together[0] - alone[0])[:, ~hidden].max() < 1e-5
    assert (together[1] == alone[1])[~hidden].all()


def test_reading_ahead_gives_the_same_tiles_and_errors() -> None:
    def items():
        yield from range(5)
        raise ValueError("a damaged file")

    seen = []
    with pytest.raises(ValueError, match="damaged"):
        seen.extend(forward._ahead(iter(range(3))))
        for item in forward._ahead(items()):
            seen.append(item)
    assert seen == [0, 1, 2, 0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("make", "side"), [(partial(UNet, 2, 1, 1), 64), (partial(UNet, 2, 1, 3), 192), (partial(UNetMobileNetV2, 2), 1024)]
)
@torch.no_grad()
def test_a_pixel_changes_no_logit_beyond_the_reach(make: Callable[[], Network], side: int) -> None:
    net = for_inference(make())
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):  # nothing that is seen is dead, and nothing cancels
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            nn.init.zeros_(module.bias) if module.bias is not None else None
        elif isinstance(module, nn.ReLU6):
            module.max_val = float("inf")
    net = net.double()
    before = net(torch.full((1, 3, 32, side), 200.0, dtype=torch.double))
    farthest = 0
    for place in (side // 2, side // 2 + net.divisor - 1):
        image = torch.full((1, 3, 32, side), 200.0, dtype=torch.double)
        image[..., place] = 1e9
        changed = (net(image) - before).abs().amax((0, 1, 2)).nonzero()
        farthest = max(farthest, int((changed - place).abs().max()))
    assert net.reach is not None and net.reach - net.divisor < farthest <= net.reach
