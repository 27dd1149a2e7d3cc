"""The precision that a device computes in."""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

OF_CPUS = ("amx_bf16", "avx512_bf16")
"""torch's names of the x86 instructions that multiply bfloat16."""

OF_ARM = ("bf16", "sve_bf16")
"""The same of ARM, where oneDNN uses them through the Arm Compute Library alone."""


def resolved_precision(precision: str | int, accelerator: str = "auto", gpu: int = 0) -> str:
    """`auto` by what the device multiplies in hardware; every other name stays as it is.

    | device | `auto` is |
    | --- | --- |
    | x86 CPU with AMX or AVX-512 for bfloat16: Intel from 2020, AMD from Zen 4 | bf16-mixed |
    | ARM CPU with bfloat16 in NEON or SVE, in a torch that uses it: Graviton 3, Grace | bf16-mixed |
    | every other CPU: it emulates bfloat16, in which DeepLabV3+ trains 14 times slower | 32 |
    | NVIDIA from capability 8.0: A100, RTX 30 | bf16-mixed |
    | NVIDIA of capability 7.0 to 7.5: V100, T4, RTX 20. torch emulates bfloat16 there | 16-mixed |
    | GTX 16: of capability 7.5, but without the units that multiply float16 | 32 |
    | NVIDIA below 7.0: P100, GTX 10 | 32 |
    | AMD GPU (ROCm) | bf16-mixed |
    | Apple GPU (MPS) | 32 |
    """
    if precision != "auto":
        return str(precision)
    kind = device_kind(accelerator)
    if kind == "cuda":
        return _of_gpu(gpu)
    return "bf16-mixed" if kind == "cpu" and cpu_multiplies_bfloat16() else "32"


def _of_gpu(number: int) -> str:
    import torch  # here and below, so that tables of a study do not wait for it

    capability = torch.cuda.get_device_capability(number)
    if torch.version.hip or capability >= (8, 0):
        return "bf16-mixed"
    return "16-mixed" if capability >= (7, 0) and "GTX 16" not in torch.cuda.get_device_name(number) else "32"


def cpu_multiplies_bfloat16() -> bool:
    """True if this CPU has instructions for it that torch uses."""
    import torch

    there = torch.cpu.get_capabilities()
    on_arm = torch.backends.mkldnn.is_acl_available() and any(there.get(name) for name in OF_ARM)
    return on_arm or any(there.get(name) for name in OF_CPUS)


def device_kind(accelerator: str) -> str:
    """The kind of device that `accelerator` finds here: cuda (AMD's too), mps or cpu."""
    import torch

    if accelerator not in ("cpu", "mps") and torch.cuda.is_available():
        return "cuda"
    return "mps" if accelerator != "cpu" and torch.backends.mps.is_available() else "cpu"


def autocast(precision: str, device: "torch.device | str") -> AbstractContextManager:
    """The context in which Lightning runs a step of this precision."""
    if not precision.endswith("-mixed"):
        return nullcontext()
    import torch

    return torch.autocast(torch.device(device).type, torch.bfloat16 if precision == "bf16-mixed" else torch.half)
