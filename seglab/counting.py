"""How often each number occurs, without asking the device for anything."""

import torch
from torch import Tensor


def occurrences(numbers: Tensor, count: int) -> Tensor:
    """How often each of 0..count-1 is in the whole numbers `[N]`, all of them below `count`: `int64 [count]`."""
    if numbers.device.type == "cpu":
        return torch.bincount(numbers, minlength=count)
    # bincount would wait for the device to say how many counts there are
    ones = torch.ones(numbers.shape, dtype=torch.long, device=numbers.device)
    return torch.zeros(count, dtype=torch.long, device=numbers.device).scatter_add_(0, numbers.long(), ones)
