"""What does it cost to look into a model file, beside importing TensorFlow and opening it?

    python -m benchmarks.inspect_cost --channels 1024

Whole processes, from nothing to the printed report, by turns: one that imports numpy and h5py, one
that inspects the file and prints the report, one that opens it; and the most memory that the second
took.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import memory
from .benchmark import Benchmark, Measured, Row, Target
from .networks import TITLES, heavy, keras
from .processes import ROOT
from .running import alone

CODES = {
    "numpy, h5py": "import numpy, h5py",
    "inspect": "import sys, bnfix; print(bnfix.inspect(sys.argv[1]))",
    "load": "import sys, bnfix; bnfix.load(sys.argv[1])",
}
#: Not getrusage, which tells of the process that started this one as well.
PEAK = "; print(next(s.split()[1] for s in open('/proc/self/status') if 'VmHWM' in s))"


@dataclass(frozen=True)
class Options:
    kerases: tuple[str, ...] = ("keras",)
    channels: tuple[int, ...] = (256, 1024)
    layers: int = 11
    suffixes: tuple[str, ...] = (".h5", ".keras")
    repeats: int = 5


def measure(options: Options) -> Iterator[Row]:
    for dialect in options.kerases:
        for channels in options.channels:
            model = heavy(keras(dialect), channels, options.layers)
            for suffix in options.suffixes:
                labels = {"Keras": TITLES[dialect], "file": suffix}
                yield Row(labels, _numbers(model, suffix, options.repeats))


def _numbers(model: Any, suffix: str, repeats: int) -> dict[str, Measured]:
    import bnfix

    seconds: dict[str, list[float]] = {name: [] for name in CODES}
    most: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{suffix}"
        bnfix.save(model, path)
        size = path.stat().st_size / memory.MIB
        for _ in range(repeats):
            for name, code in CODES.items():
                taken, mebibytes = _timed(code, path)
                seconds[name].append(taken)
                if name == "inspect":
                    most.append(mebibytes)
    times = {name: Measured("s", tuple(found)) for name, found in seconds.items()}
    held = {"memory of inspect": Measured("MiB", tuple(most))} if any(most) else {}
    return {"size": Measured("MiB", (size,)), **times, **held}


def _timed(code: str, path: Path) -> tuple[float, float]:
    """Seconds of a process that runs `code`, and the MiB that it took; 0 where none tells."""
    code += PEAK if memory.measurable() else "; print(0)"
    begin = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return time.perf_counter() - begin, int(ran.stdout.split()[-1]) / 1024


BENCHMARK = Benchmark(
    "inspect_cost",
    __doc__,
    measure,
    full=Options(),
    quick=Options(channels=(128,), suffixes=(".h5",), repeats=1),
    targets=(
        Target("`inspect` of an `.h5`, memory", "memory of inspect", 64.0, {"file": ".h5"}, "size"),
    ),
)

if __name__ == "__main__":
    alone(BENCHMARK)
