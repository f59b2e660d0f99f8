"""Opponents, each in a process of its own, and what they made of the graphs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from .outcomes import judged

ROOT = Path(__file__).parents[2]
#: Of one process, in seconds.
LIMIT = 3600


def results(
    opponent: ModuleType, python: str, framework: str, folder: Path, depths: dict[str, int]
) -> dict[str, Any]:
    """The versions, and what came of each graph whose depth `depths` holds."""
    found: dict[str, Any] = {"versions": {}, "graphs": {}}
    waiting = list(depths)
    while waiting:
        ending = _told(opponent, python, framework, folder, waiting, found)
        waiting = [graph for graph in depths if graph not in found["graphs"]]
        if waiting:  # the process died at the first of them
            found["graphs"][waiting.pop(0)] = {"norms": 0, "raised": f"the process ended: {ending}"}
    for graph, told in found["graphs"].items():
        told["outcome"] = judged(told, depths[graph]).value
    return found


def _told(
    opponent: ModuleType,
    python: str,
    framework: str,
    folder: Path,
    graphs: Sequence[str],
    found: dict[str, Any],
) -> str:
    """Puts what one process tells into `found`; how the process ended."""
    name = opponent.__name__.rpartition(".")[2]
    command = [python, "-m", "benchmarks.compare.worker", name, framework, str(folder), *graphs]
    try:
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
        lines, ending = ran.stdout, f"exit status {ran.returncode}, {ran.stderr.strip()[-200:]}"
    except subprocess.TimeoutExpired as late:
        lines, ending = (late.stdout or b"").decode(), f"nothing for {LIMIT} s"
    for line in lines.splitlines():
        told = json.loads(line)
        if "versions" in told:
            found["versions"] = told["versions"]
        else:
            found["graphs"][told.pop("graph")] = told
    return ending
