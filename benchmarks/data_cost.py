"""What does `recalibrate` cost on many small rows, against `predict` on the same?

    python -m benchmarks.data_cost --rows 1000000

A million rows of ten features in batches of 32 are 31,250 batches: what is done for each of them in
Python decides. Two BNs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import bnfix

from .benchmark import Benchmark, Row
from .networks import TITLES, keras
from .running import alone
from .timing import interleaved


@dataclass(frozen=True)
class Options:
    kerases: tuple[str, ...] = ("keras", "tf_keras")
    rows: int = 1_000_000
    batch: int = 32
    repeats: int = 1


def measure(options: Options) -> Iterator[Row]:
    x = np.random.default_rng(0).normal(size=(options.rows, 10)).astype("float32")
    starts, batch = range(0, len(x), options.batch), options.batch
    for dialect in options.kerases:
        model = _network(keras(dialect))
        model.predict(x[:64], batch_size=batch, verbose=0)
        again = partial(bnfix.recalibrate, model, verbose=0)
        calls: dict[str, Callable[[], Any]] = {
            "predict": partial(model.predict, x, batch_size=batch, verbose=0),
            "recalibrate, arrays": partial(again, ds=x, batch_size=batch),
            "recalibrate, generator": lambda again=again: again(
                ds=(x[start : start + batch] for start in starts)
            ),
            "recalibrate, streaming": partial(again, ds=x, batch_size=batch, method="streaming"),
        }
        times = interleaved(calls, options.repeats)
        for name, time in times.items():
            numbers = {"time": time, "/ predict": time / times["predict"]}
            yield Row({"Keras": TITLES[dialect], "call": name}, numbers)


def _network(K: Any) -> Any:
    L = K.layers
    inputs = x = K.Input((10,))
    for _ in range(2):
        x = L.ReLU()(L.BatchNormalization()(L.Dense(32)(x)))
    return K.Model(inputs, L.Dense(1)(x))


BENCHMARK = Benchmark(
    "data_cost",
    __doc__,
    measure,
    full=Options(),
    quick=Options(kerases=("keras",), rows=20_000),
)

if __name__ == "__main__":
    alone(BENCHMARK)
