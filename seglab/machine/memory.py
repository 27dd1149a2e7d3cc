"""Memory that is free: a system without any left ends a process without a word."""

import resource
from pathlib import Path

LIMITS = (("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
          ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"))  # fmt: skip
"""Where Linux tells a container's limit, and what is used of it."""


def free_memory() -> int | None:
    """Bytes that this process may still take; None where the system does not tell."""
    found = []
    known = _numbers(Path("/proc/meminfo"))
    if "MemAvailable" in known:
        found.append(known["MemAvailable"])
    for limit, used in LIMITS:
        try:
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # none, or "max"
            continue
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    taken = _numbers(Path("/proc/self/status")).get("VmSize")
    if most != resource.RLIM_INFINITY and taken is not None:
        found.append(most - taken)
    return min(found, default=None)


def _numbers(path: Path) -> dict[str, int]:
    """The lines `name: number kB` of a file of Linux, in bytes."""
    if not path.exists():
        return {}
    words = (line.split() for line in path.read_text().splitlines())
    return {w[0].rstrip(":"): 1024 * int(w[1]) for w in words if len(w) == 3 and w[2] == "kB"}
