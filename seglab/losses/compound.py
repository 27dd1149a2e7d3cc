"""Several losses as one: their weighted sum."""

import math

import torch
from torch import Tensor, nn


class Compound(nn.Module):
    """Sum of weights[name] * losses[name](logits, target); ValueError where the names of the two differ."""

    def __init__(self, losses: dict[str, nn.Module], weights: dict[str, float]):
        super().__init__()
        if set(losses) != set(weights) or not losses:
            raise ValueError(f"weights {sorted(weights)}: expected one for each of the losses {sorted(losses)}")
        for name, weight in weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"weights.{name} {weight}: expected a finite number >= 0")
        self.losses = nn.ModuleDict(losses)
        self.weights = {name: float(weight) for name, weight in weights.items()}

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        terms = [self.weights[name] * loss(logits, target) for name, loss in self.losses.items()]
        return torch.stack(terms).sum()
