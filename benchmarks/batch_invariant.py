"""What do bit-identical answers cost: `batch_invariant(model).predict` against `model.predict`?

    python -m benchmarks.batch_invariant --networks LSTM --rows 1 8

`predict` itself takes tens of milliseconds a call, whatever it is given. Positions are those of a
batch that are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import bnfix

from .benchmark import Benchmark, Row
from .networks import TITLES, keras, network
from .running import alone
from .timing import interleaved, milliseconds


@dataclass(frozen=True)
class Options:
    kerases: tuple[str, ...] = ("keras",)
    networks: tuple[str, ...] = ("MLP", "LSTM", "ResNet50", "MobileNetV2")
    rows: tuple[int, ...] = (1, 8, 64)
    batch: int = 8
    size: int = 96
    repeats: int = 7


def measure(options: Options) -> Iterator[Row]:
    for dialect in options.kerases:
        K = keras(dialect)
        for name in options.networks:
            model = _OWN[name](K) if name in _OWN else network(K, name, options.size)
            stable = bnfix.batch_invariant(model, options.batch)
            shape = tuple(model.inputs[0].shape[1:])
            x = np.random.default_rng(0).normal(size=(max(options.rows), *shape)).astype("float32")
            for rows in options.rows:
                calls = {
                    "predict": partial(model.predict, x[:rows], verbose=0),
                    "bit-identical": partial(stable.predict, x[:rows]),
                }
                times = interleaved(calls, options.repeats, warm_up=1)
                ratio = {"ratio": times["bit-identical"] / times["predict"]}
                yield Row(
                    {"Keras": TITLES[dialect], "network": name, "rows": str(rows)},
                    {**{key: milliseconds(each) for key, each in times.items()}, **ratio},
                    {"positions": f"{len(stable.positions)} of {stable.batch_size}"},
                )


def _mlp(K: Any) -> Any:
    L = K.layers
    hidden = [L.Dense(512, activation="relu"), L.BatchNormalization(), L.Dense(512)]
    return K.Sequential([K.Input((64,)), *hidden, L.Dense(10, activation="softmax")])


def _lstm(K: Any) -> Any:
    return K.Sequential([K.Input((32, 16)), K.layers.LSTM(128), K.layers.Dense(10)])


_OWN = {"MLP": _mlp, "LSTM": _lstm}

BENCHMARK = Benchmark(
    "batch_invariant",
    __doc__,
    measure,
    full=Options(),
    quick=Options(networks=("MLP",), rows=(1, 8), repeats=2),
)

if __name__ == "__main__":
    alone(BENCHMARK)
