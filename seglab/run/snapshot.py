"""A copy of a training's state that a thread can write while the training changes it."""

import copy
from typing import Any

import torch
from torch import Tensor


class Snapshot:
    """Copies of nested values, all in the same memory on the host: a copy is good until the next one is taken.

    Of tensors on a GPU the memory is pinned, so that taking a copy does not wait for the GPU.
    """

    def __init__(self) -> None:
        self._memory: list[Tensor] = []
        self._taken = 0
        self._copied: list[torch.cuda.Event] = []

    def take(self, value: Any) -> Any:
        """A copy of mappings, lists and tensors in each other, complete after `wait`."""
        self._taken = 0
        devices: dict[torch.device, torch.cuda.Event] = {}
        out = self._copy(value, devices)
        del self._memory[self._taken :]
        for device, event in devices.items():
            event.record(torch.cuda.current_stream(device))
        self._copied = list(devices.values())
        return out

    def wait(self) -> None:
        """Waits until the GPU has copied."""
        for event in self._copied:
            event.synchronize()

    def _copy(self, value: Any, devices: dict[torch.device, torch.cuda.Event]) -> Any:
        if isinstance(value, Tensor):
            if value.is_cuda and value.device not in devices:
                devices[value.device] = torch.cuda.Event()
            return self._place(value).copy_(value, non_blocking=True)
        if isinstance(value, dict):
            out = copy.copy(value)  # state_dict() is an ordered one with attributes
            for key, item in value.items():
                out[key] = self._copy(item, devices)
            return out
        return type(value)(self._copy(item, devices) for item in value) if type(value) in (list, tuple) else value

    def _place(self, like: Tensor) -> Tensor:
        """Memory for a tensor: that of the last copy if it has the same form."""
        i = self._taken
        self._taken += 1
        if i < len(self._memory) and _form(self._memory[i]) == _form(like):
            return self._memory[i]
        place = torch.empty_like(like, device="cpu", pin_memory=like.is_cuda)
        self._memory[i : i + 1] = [place]
        return place


def _form(tensor: Tensor) -> tuple:
    return tensor.dtype, tensor.shape, tensor.stride()
