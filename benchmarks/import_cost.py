"""What does `import bnfix` cost?

    python -m benchmarks.import_cost

Each import in a process of its own, beside that of numpy, which bnfix imports once it is needed,
and of TensorFlow, which it leaves to the model. Seconds of the import alone, without those in which
Python starts.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from .benchmark import Benchmark, Measured, Row, Target
from .processes import ROOT
from .running import alone

_CODE = "import time; begin = time.perf_counter(); import {}; print(time.perf_counter() - begin)"
MODULES = ("bnfix", "numpy", "tensorflow")


@dataclass(frozen=True)
class Options:
    modules: tuple[str, ...] = MODULES
    repeats: int = 7


def measure(options: Options) -> Iterator[Row]:
    found: dict[str, list[float]] = {module: [] for module in options.modules}
    for _ in range(options.repeats):
        for module, seconds in found.items():
            seconds.append(imported(module))
    for module, seconds in found.items():
        yield Row({"import": module}, {"time": Measured("s", tuple(seconds))})


def imported(module: str) -> float:
    """Seconds of the import, in a process that has imported nothing else."""
    ran = subprocess.run(
        [sys.executable, "-c", _CODE.format(module)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(ran.stdout)


BENCHMARK = Benchmark(
    "import_cost",
    __doc__,
    measure,
    full=Options(),
    quick=Options(modules=("bnfix", "numpy"), repeats=2),
    targets=(Target("`import bnfix`", "time", 0.1, {"import": "bnfix"}),),
)

if __name__ == "__main__":
    alone(BENCHMARK)
