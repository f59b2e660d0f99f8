"""Where and with what something was measured, and how busy the machine was with other work."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path

import bnfix

PACKAGES = ("tensorflow", "keras", "tf_keras", "numpy")


def machine() -> dict[str, str | int]:
    """Processor, cores that this process may use, and memory in GiB."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory": round(memory),
        "system": platform.system(),
    }


def versions() -> dict[str, str]:
    """Those of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {**found, "bnfix": bnfix.__version__}  # of the checkout, which need not be installed


def cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Others:
    """How much of the processor everybody else uses from here on."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._busy, self._own = _busy(), _own()

    def share(self) -> float | None:
        """Of all cores, from 0 to 1; None where the system does not tell."""
        busy = _busy()
        if busy is None or self._busy is None:
            return None
        available = (time.perf_counter() - self._began) * (os.cpu_count() or 1)
        others = (busy - self._busy) - (_own() - self._own)
        return min(max(others / available, 0.0), 1.0)


def _own() -> float:
    """Seconds of the processor for this process and those that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _busy() -> float | None:
    """Seconds of all cores for everybody, other machines on the same hardware included."""
    file = Path("/proc/stat")
    if not file.exists():
        return None
    user, nice, system, _idle, _wait, irq, softirq, steal = (
        int(ticks) for ticks in file.read_text().split()[1:9]
    )
    return sum((user, nice, system, irq, softirq, steal)) / os.sysconf("SC_CLK_TCK")


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
