"""What does `recalibrate` take in memory, with `memory_limit` and without?

    python -m benchmarks.recalibrate_memory --limits 0 2

Images are drawn from a generator. Each run has a process of its own, whose largest size is compared
with its size just before, beside the live set that the report tells.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import memory
from .benchmark import Benchmark, Measured, Row, Skipped
from .networks import TITLES, keras
from .processes import apart
from .running import alone

SHAPE, CHANNELS, LAYERS, BATCH = (64, 64, 3), 32, 8, 32
GIB = 1 << 30


@dataclass(frozen=True)
class Options:
    kerases: tuple[str, ...] = ("keras",)
    images: int = 7424
    limits: tuple[float, ...] = (0.0, 1.0)  # GiB; 0: none
    repeats: int = 3


def measure(options: Options) -> Iterator[Row | Skipped]:
    if not memory.measurable():
        yield Skipped("recalibrate_memory", "the system has no /proc/self/clear_refs")
        return
    for dialect in options.kerases:
        first: Measured | None = None
        for limit in options.limits:
            found = [
                apart(recalibrated, dialect, options.images, limit) for _ in range(options.repeats)
            ]
            seconds, extra, bound = zip(*found, strict=True)
            times = Measured("s", seconds)
            first = first or times
            numbers = {
                "time": times,
                "to the first": times / first,
                "more than before": Measured("GiB", extra),
                "implied by the graph": Measured("GiB", bound),
            }
            label = f"{limit:g} GiB" if limit else "none"
            yield Row({"Keras": TITLES[dialect], "memory_limit": label}, numbers)


def recalibrated(dialect: str, count: int, limit: float) -> tuple[float, float, float]:
    """Seconds, extra memory, and the bound, in GiB."""
    import bnfix

    K = keras(dialect)
    steps: list[Any] = []
    for _ in range(LAYERS):
        steps += [K.layers.Conv2D(CHANNELS, 1), K.layers.BatchNormalization(), K.layers.ReLU()]
    model = K.Sequential([K.Input(SHAPE), *steps])
    bnfix.recalibrate(model, _drawn(2 * BATCH), verbose=0)  # what is loaded once
    before = memory.held()
    memory.from_here_on()
    begin = time.perf_counter()
    _, report = bnfix.recalibrate(
        model,
        _drawn(count),
        memory_limit=int(limit * GIB) if limit else None,
        verbose=0,
        return_report=True,
    )
    seconds = time.perf_counter() - begin
    return seconds, (memory.largest() - before) / 1024, report.memory / GIB


def _drawn(count: int) -> Iterator[Any]:
    rng = np.random.default_rng(0)
    for _ in range(0, count, BATCH):
        yield rng.random((BATCH, *SHAPE), np.float32)


BENCHMARK = Benchmark(
    "recalibrate_memory",
    __doc__,
    measure,
    full=Options(),
    quick=Options(images=128, limits=(0.0625,), repeats=1),
)

if __name__ == "__main__":
    alone(BENCHMARK)
