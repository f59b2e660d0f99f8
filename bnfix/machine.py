"""How much memory does the machine have left?"""

from __future__ import annotations

import os
from pathlib import Path


def free_memory() -> float:
    """Bytes of memory that could be had now, infinite where the system does not tell."""
    return min(_of_machine(), _of_container())


def _of_machine() -> float:
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if "MemAvailable" in line)
    except (OSError, StopIteration):
        pass
    try:  # elsewhere the whole of it has to do
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return float("inf")


def _of_container() -> float:
    """What a control group leaves, which the machine as a whole knows nothing of."""
    try:
        limit, used = (
            Path(f"/sys/fs/cgroup/memory.{name}").read_text("ascii").strip()
            for name in ("max", "current")
        )
        return float("inf") if limit == "max" else float(limit) - float(used)
    except (OSError, ValueError):
        return float("inf")
