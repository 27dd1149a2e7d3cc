"""A network as one program for images of any size: what leaves seglab computes as what stays in it."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config

from seglab.models.network import Network
from seglab.models.plain import plain

EXAMPLE = (2, 70, 85)
"""Batch, height and width that a program of any size is traced with: none of them 1, none that a divisor divides."""


@dataclass(frozen=True)
class Form:
    """Form of a program: by default images in the reader's units, of any size, and logits."""

    tile: int | None = None
    """side of the only images that it takes"""
    unit: float = 1.0
    """number of the reader's units in one unit of the input"""
    softmax: bool = False

    @property
    def output(self) -> str:
        """Name of the output."""
        return "probabilities" if self.softmax else "logits"


class Program(nn.Module):
    """Images `float32 [B,C,H,W]` of a form -> its output `[B,K,H,W]`."""

    def __init__(self, net: Network, form: Form):
        super().__init__()
        self.net = net
        self.form = form

    def forward(self, image: Tensor) -> Tensor:
        if self.form.unit != 1:
            image = image * self.form.unit
        logits = self.net(image)
        return logits.softmax(1) if self.form.softmax else logits

    @torch.no_grad()
    def of(self, image: np.ndarray) -> np.ndarray:
        """The output of images, as arrays."""
        return self(torch.from_numpy(image)).float().numpy()


def traced(net: Network, form: Form, channels: int) -> ExportedProgram:
    """The program of a trained network. Raises ValueError, one line, for a network that can't be traced."""
    batch, height, width = EXAMPLE if form.tile is None else (EXAMPLE[0], form.tile, form.tile)
    image = torch.zeros(batch, channels, height, width)
    free = {0: Dim.DYNAMIC} if form.tile else {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    # otherwise the program takes no image of one pixel, and none whose size was padded by nothing
    anything = _config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    try:
        with torch.no_grad(), anything, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(Program(plain(net), form), (image,), dynamic_shapes=(free,))
    except Exception as e:  # the compiler raises whatever it likes for a model of somebody's own
        raise ValueError(f"this model can't be exported ({(str(e).splitlines() or [type(e).__name__])[0]})") from e
