"""Tiles of DeepLabV3+, whose global pooling sees a tile instead of the whole image: how far its maps differ."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from seglab.data.files.pixels import Pixels
from seglab.data.files.rasters import Decoded
from seglab.maps.scoring import confusion_each, logits_of
from seglab.models.deeplabv3plus import DeepLabV3Plus
from seglab.models.inference import for_inference
from seglab.predict.tiles.tiling import Tiling, tiled
from seglab.scores import scores

CLASSES = ["background", "building", "vegetation", "water"]


def real(shared: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A part of a real image and its label."""
    folder = shared / "data" / "dubai"
    with Image.open(folder / "data" / f"{name}.jpg") as image, Image.open(folder / "label" / f"{name}.png") as label:
        return np.asarray(image)[:448, :448], np.asarray(label)[:448, :448]


@torch.no_grad()
def fitted(shared: Path) -> DeepLabV3Plus:
    """ImageNet's encoder, a random decoder, and a head that is fitted to a real label by least squares."""
    torch.manual_seed(0)
    weights = shared / "weights" / "mobilenet_v2_imagenet.pth"
    net = for_inference(DeepLabV3Plus(4, str(weights), decoder_channels=64))
    image, label = real(shared, "68")
    seen: list[Tensor] = []
    head = net.net.segmentation_head[0]
    with torch.no_grad():
        handle = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        logits_of(net, image)
        handle.remove()
    features = seen[0][0].flatten(1).T.double()  # [N,64]
    small = torch.from_numpy(label.copy())[None, None].float()
    wanted = F.interpolate(small, size=seen[0].shape[2:], mode="nearest")[0, 0].long().flatten()
    design = torch.cat([features, torch.ones(len(features), 1, dtype=torch.double)], 1)
    target = F.one_hot(wanted, 4).double()
    solved = torch.linalg.lstsq(design.T @ design + 1e-3 * torch.eye(65), design.T @ target).solution
    head.weight.copy_(10 * solved[:-1].T.view(4, 64, 1, 1).float())
    head.bias.copy_(10 * solved[-1].float())
    return net


def test_maps_by_tiles_are_nearly_those_of_the_whole_image(shared: Path) -> None:
    net = fitted(shared)
    assert net.reach is None
    image, label = real(shared, "68")
    whole = logits_of(net, image)[0].argmax(0)
    strips = tiled([net], Decoded(Path("68.jpg"), Pixels(image, None, 1)), Tiling(256, 64))
    tiles = torch.from_numpy(np.concatenate([strip.classes for strip in strips])).long()
    mask = torch.from_numpy(label.copy())[None]
    miou = [scores(confusion_each(m[None], mask, 4)[0].numpy(), CLASSES)["miou"] for m in (whole, tiles)]
    equal = float((whole == tiles).float().mean())
    assert miou[0] > 0.3
    assert 0.97 < equal < 1 and abs(miou[0] - miou[1]) < 0.005
