"""The machine that a table is of: facts without a date, and a name for its file."""

import os
import platform
import re
from pathlib import Path

import torch

from seglab.machine.precision import resolved_precision

MULTIPLY = ("amx_bf16", "avx512_bf16", "sve_bf16", "bf16", "avx512_f", "avx2", "sve", "neon")
"""torch's names of instructions that multiply, the fastest first."""


def facts() -> dict[str, str]:
    """What a speed depends on, besides the code."""
    there = [name for name in MULTIPLY if torch.cpu.get_capabilities().get(name)]
    found = {
        "CPU": cpu(),
        "cores": f"{os.cpu_count()}, of which torch uses {torch.get_num_threads()}",
        "instructions": ", ".join(there) or "none that torch names",
        "torch": torch.__version__,
        "precision=auto on the CPU": resolved_precision("auto", "cpu"),
    }
    for i, name in enumerate(gpus()):
        of_gpu = torch.cuda.get_device_properties(i)
        memory = f"{of_gpu.total_memory / 2**30:.0f} GiB"
        found[f"GPU {i}"] = f"{name}, capability {of_gpu.major}.{of_gpu.minor}, {memory}"
        found[f"precision=auto on GPU {i}"] = resolved_precision("auto", "gpu", i)
    return found


def name() -> str:
    """A name for a file: the CPU, its fastest instructions, its cores, and the GPUs."""
    there = torch.cpu.get_capabilities()
    fastest = next((name for name in MULTIPLY if there.get(name)), "")
    words = [cpu(), fastest, f"{os.cpu_count()} cores", *dict.fromkeys(gpus())]
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


def cpu() -> str:
    """The CPU's model."""
    listed = Path("/proc/cpuinfo")
    said = listed.read_text() if listed.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", said, re.M)
    return plain(found[1] if found else str(torch.cpu.get_capabilities().get("cpu_name") or platform.machine()))


def plain(model: str) -> str:
    """A model without trade marks, speed and number of cores, which a name of its own says."""
    return " ".join(re.sub(r"\((R|TM)\)|\bCPU\b|\bProcessor\b|@.*|\b\d+-Core\b", " ", model).split())


def gpus() -> list[str]:
    """Models of the GPUs that torch sees."""
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
