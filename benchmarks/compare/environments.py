"""The environments of the opponents: made, and found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType


def interpreter(name: str | None, environments: Path | None) -> str | None:
    """The Python of the environment `name`; None where it is not installed."""
    if name is None:
        return sys.executable
    if environments is None:
        return None
    python = environments / name / "bin" / "python"
    return str(python) if python.exists() else None


def set_up(opponents: list[ModuleType], environments: Path) -> None:
    """Makes what is missing of the environments of `opponents`."""
    for opponent in opponents:
        if opponent.ENVIRONMENT is None or interpreter(opponent.ENVIRONMENT, environments):
            continue
        folder = environments / opponent.ENVIRONMENT
        print(f"{opponent.TITLE}: {', '.join(opponent.PACKAGES)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        if subprocess.run([*pip, *opponent.PACKAGES]).returncode:
            print(f"{opponent.TITLE} does not install; what came of it lies in {folder}")
