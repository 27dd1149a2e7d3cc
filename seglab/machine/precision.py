"""The precision that a device computes in."""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def resolved_precision(precision: str | int, accelerator: str = "auto", gpu: int = 0) -> str:
    """`auto` is bf16-mixed where the device multiplies it in hardware, else 32; every other name stays as it is.

    On a GPU that is compute capability 8.0; torch also counts those that emulate it, such as a T4. On a CPU that is
    AMX: DeepLabV3+ trains 1.7 times faster with it, but 14 times slower where bfloat16 is emulated.
    """
    if precision != "auto":
        return str(precision)
    import torch  # here and below, so that tables of a study do not wait for it

    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.version.hip or torch.cuda.get_device_capability(gpu) >= (8, 0) else "32"
    return "bf16-mixed" if torch.cpu.get_capabilities().get("amx_bf16") else "32"


def on_cpu(accelerator: str) -> bool:
    """True if `accelerator` is the CPU here."""
    import torch

    return accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())


def autocast(precision: str, device: "torch.device | str") -> AbstractContextManager:
    """The context in which Lightning runs a step of this precision."""
    if not precision.endswith("-mixed"):
        return nullcontext()
    import torch

    return torch.autocast(torch.device(device).type, torch.bfloat16 if precision == "bf16-mixed" else torch.half)
