"""How much memory a process takes, as Linux tells it."""

from __future__ import annotations

from pathlib import Path

MIB = 1 << 20
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measurable() -> bool:
    return _STATUS.exists() and _CLEAR.exists()


def held() -> float:
    """MiB of this process that are in memory."""
    return _of("VmRSS")


def largest() -> float:
    """The most of it since `from_here_on`, or since it began."""
    return _of("VmHWM")


def from_here_on() -> None:
    _CLEAR.write_text("5")


def _of(key: str) -> float:
    lines = _STATUS.read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024
