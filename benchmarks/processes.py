"""Functions of benchmarks that run in a process of their own, and tell what they found in JSON.

python -m benchmarks.processes benchmarks.fold_memory peak '["keras", 1024, 10]'
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` of a benchmark returns in a process of its own."""
    return told(started(function, *arguments))


def started(
    function: Callable[..., Any],
    *arguments: Any,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """The process, by `python`, with more in its environment."""
    module = sys.modules[function.__module__]
    name = module.__spec__.name if module.__spec__ else module.__name__  # not "__main__"
    command = [python, "-m", __name__, name, function.__name__, json.dumps(arguments)]
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    given = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": paths, **(environment or {})}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=given,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def told(job: subprocess.Popen[str]) -> Any:
    out, err = job.communicate()
    if job.returncode:
        raise RuntimeError(f"a process ended with {job.returncode}: {err.strip()[-500:]}")
    return json.loads(out.splitlines()[-1])


if __name__ == "__main__":
    module, function, arguments = sys.argv[1:]
    found = getattr(importlib.import_module(module), function)(*json.loads(arguments))
    print(json.dumps(found), flush=True)
    os._exit(0)  # a strategy's threads would keep the process
