"""Image -> logits -> map."""

import numpy as np
import torch
from torch import Tensor

from seglab.machine.precision import autocast
from seglab.models.network import Network


def class_map(logits: Tensor) -> Tensor:
    """The map `int64 [B,H,W]` of logits: validation, pictures and prediction all take it from here."""
    return logits.max(1).indices  # 30 times faster than argmax(1) on a contiguous CPU tensor


@torch.no_grad()
def predict(net: Network, image: np.ndarray, device: torch.device | str = "cpu", precision: str = "32") -> np.ndarray:
    """The map `uint8 [H,W]` of an image `uint8 [H,W,3]` of any size, in eval mode."""
    training = net.training
    net.eval()
    try:
        with autocast(precision, device):
            logits = net(torch.from_numpy(image.copy()).to(device).permute(2, 0, 1)[None].float())
        return class_map(logits)[0].byte().cpu().numpy()
    finally:
        net.train(training)
