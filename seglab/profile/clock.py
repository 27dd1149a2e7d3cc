"""Where a training's time goes: a clock that gives every moment to one phase, and a trace of a few steps' kernels."""

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import Profiler
from torch.profiler import ProfilerActivity, profile

from seglab.profile.phases import BEGINS, EPOCH_END, OTHER, PARTS, STEPS, TRAINING, VALIDATION, phase_of

WARM_UP = 3
"""Training steps at the start that are not counted."""

TRACED = 3
"""Training steps after the warm-up that are traced instead of timed."""

Unit = defaultdict[str, float]
"""Seconds of each phase, in one step or at one end of an epoch."""


@dataclass(frozen=True)
class Kernel:
    """An operator with its input shapes: calls and milliseconds a step, and its share of all operators' time."""

    name: str
    shapes: str
    calls: float
    ms: float
    share: float


class PhaseClock(Profiler):
    """Profiler for Lightning that adds each moment to the innermost phase, so that phases add up to their part.

    On a device other than the CPU it waits for the device at each change of phase. The sum is then longer than an
    undisturbed step, which `benchmark=true` measures.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lightning_module: pl.LightningModule | None = None  # Lightning's trainer sets it
        self.units: dict[str, list[Unit]] = {part: [] for part in PARTS}
        self.kernels: list[Kernel] = []
        self.traced = 0
        self._stack = [OTHER]
        self._part: str | None = None
        self._unit: Unit = defaultdict(float)
        self._epoch_end: Unit | None = None
        self._steps = 0
        self._trace: profile | None = None
        self._at = 0.0

    @property
    def device(self) -> torch.device:
        """The device on which the network is trained."""
        return self._lightning_module.device if self._lightning_module else torch.device("cpu")

    def setup(self, stage: str, local_rank: int | None = None, log_dir: Any = None) -> None:
        super().setup(stage, local_rank, None)

    def start(self, action_name: str) -> None:
        part = BEGINS.get(action_name.rpartition(".")[2])
        if part and (part in STEPS or part != self._part):
            self._begin(part)
        self._enter(phase_of(action_name) or self._stack[-1])

    def stop(self, action_name: str) -> None:
        self._tick(self._stack[-2])
        self._stack.pop()

    def end(self) -> None:
        """Closes the open part; an incomplete step does not count."""
        if self._part in STEPS and self._unit in self.units[self._part][-1:]:
            self.units[self._part].pop()
        self._begin(None)

    def timed(self, part: str) -> list[Unit]:
        """Seconds of each phase in each unit of a part after its warm-up; in all units if there are no others."""
        warm_up = {TRAINING: WARM_UP, VALIDATION: 1}.get(part, 0)
        return self.units[part][warm_up:] or self.units[part]

    def _enter(self, phase: str) -> None:
        self._tick(phase)
        self._stack.append(phase)

    def _tick(self, following: str) -> None:
        """Adds the time since the last tick to the current phase, unless the same phase follows."""
        if following != self._stack[-1]:
            self._add()

    def _add(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        now = time.perf_counter()
        self._unit[self._stack[-1]] += now - self._at
        self._at = now

    def _begin(self, part: str | None) -> None:
        self._add()
        if self._part == TRAINING:
            self._steps += 1
            self.traced += self._trace is not None
        if self._trace and (part != TRAINING or self.traced == TRACED):
            self._end_trace(self._trace)
        if part == TRAINING:
            self._epoch_end = None
            if self._steps == WARM_UP and not self.traced:
                self._begin_trace()
        self._part = part
        self._unit = self._new_unit(part)
        self._at = time.perf_counter()

    def _new_unit(self, part: str | None) -> Unit:
        if part == EPOCH_END and self._epoch_end is not None:  # validation came between
            return self._epoch_end
        unit: Unit = defaultdict(float)
        if part and not self._trace:
            self.units[part].append(unit)
        if part == EPOCH_END:
            self._epoch_end = unit
        return unit

    def _begin_trace(self) -> None:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.device.type == "cuda" else [])]
        self._trace = profile(activities=activities, record_shapes=True, acc_events=True)
        self._trace.start()

    def _end_trace(self, trace: profile) -> None:
        trace.stop()
        self.kernels = kernels(trace, self.traced, self.device.type == "cuda")
        self._trace = None


def kernels(trace: profile, steps: int, on_gpu: bool) -> list[Kernel]:
    """Operators of a trace of `steps` steps, sorted by their own time (the GPU's on a GPU), the longest first."""
    found: list[tuple[float, Any]] = []
    for event in trace.key_averages(group_by_input_shape=True):
        around = event.is_user_annotation or event.key.startswith("Optimizer.")  # not an operator: a mark around some
        if event.device_type == torch.autograd.DeviceType.CPU and not around:  # a GPU's own kernels have no shapes
            seconds = (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6
            found.append((seconds, event))
    total = sum(seconds for seconds, _ in found) or 1.0
    found.sort(key=lambda f: -f[0])
    return [
        Kernel(e.key, shapes(e.input_shapes), e.count / steps, 1000 * s / steps, s / total) for s, e in found if s > 0
    ]


def shapes(inputs: list[list[int]]) -> str:
    """Shapes of the tensors among an operator's inputs, such as `8x3x224x224, 32x3x3x3`."""
    return ", ".join("x".join(map(str, shape)) for shape in inputs if shape and all(isinstance(n, int) for n in shape))
