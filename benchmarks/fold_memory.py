"""What does folding take in memory, beside the size of the model's file?

    python -m benchmarks.fold_memory --kerases tf_keras

Linux alone, each run in a process of its own: the largest size of the process while `fold` runs,
its proof included, less its size before, which holds the model given. The new model alone takes the
size of the file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import memory
from .benchmark import Benchmark, Measured, Row, Skipped, Target
from .networks import TITLES, heavy, keras
from .processes import apart
from .running import alone


@dataclass(frozen=True)
class Options:
    kerases: tuple[str, ...] = ("keras", "tf_keras")
    channels: int = 1024
    layers: int = 11
    repeats: int = 5


def measure(options: Options) -> Iterator[Row | Skipped]:
    if not memory.measurable():
        yield Skipped("fold_memory", "the system has no /proc/self/clear_refs")
        return
    for dialect in options.kerases:
        found = [
            apart(peak, dialect, options.channels, options.layers) for _ in range(options.repeats)
        ]
        size, more = (Measured("MiB", tuple(each)) for each in zip(*found, strict=True))
        numbers = {"file": size, "more than before": more, "more / file": more / size}
        yield Row({"Keras": TITLES[dialect]}, numbers)


def peak(dialect: str, channels: int, layers: int) -> tuple[float, float]:
    """MiB of the file, and how many the process grows by."""
    import bnfix

    model = heavy(keras(dialect), channels, layers)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.h5"
        bnfix.save(model, path)
        size = path.stat().st_size / memory.MIB
    before = memory.held()
    memory.from_here_on()
    bnfix.fold(model, verbose=0)
    return size, memory.largest() - before


BENCHMARK = Benchmark(
    "fold_memory",
    __doc__,
    measure,
    full=Options(),
    quick=Options(kerases=("keras",), channels=256, repeats=1),
    targets=(Target("`fold`, peak memory / file, 395 MiB", "more / file", 3.0),),
)

if __name__ == "__main__":
    alone(BENCHMARK)
