"""What bit-identical answers cost: `batch_invariant(model).predict` against plain `model.predict`.

The contenders take turns within one run. Columns: rows predicted, median milliseconds of each, the
second over the first, and the positions of a batch that are used.
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import bnfix


def mlp(K: Any, size: int) -> Any:
    L = K.layers
    hidden = [L.Dense(512, activation="relu"), L.BatchNormalization(), L.Dense(512)]
    return K.Sequential([K.Input((64,)), *hidden, L.Dense(10, activation="softmax")])


def lstm(K: Any, size: int) -> Any:
    return K.Sequential([K.Input((32, 16)), K.layers.LSTM(128), K.layers.Dense(10)])


def application(name: str) -> Callable[[Any, int], Any]:
    def make(K: Any, size: int) -> Any:
        return getattr(K.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)

    return make


NETWORKS: dict[str, Callable[[Any, int], Any]] = {
    "mlp": mlp,
    "lstm": lstm,
    "ResNet50": application("ResNet50"),
    "MobileNetV2": application("MobileNetV2"),
}


def median_times(calls: list[Callable[[], Any]], repeats: int) -> list[float]:
    """Median milliseconds of each call, in turns; the first round traces and is not counted."""
    taken: list[list[float]] = [[] for _ in calls]
    for round_number in range(repeats + 1):
        for call, times in zip(calls, taken, strict=True):
            begin = time.perf_counter()
            call()
            if round_number:
                times.append((time.perf_counter() - begin) * 1000)
    return [float(np.median(times)) for times in taken]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=[*NETWORKS], help=", ".join(NETWORKS))
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--size", type=int, default=96, help="of images")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--keras", choices=("keras", "tf_keras"), default="keras")
    arguments = parser.parse_args()
    K = importlib.import_module(arguments.keras)
    print(f"{'network':<12} {'rows':>5} {'predict':>10} {'invariant':>10} {'ratio':>6}  positions")
    for name in arguments.networks:
        model = NETWORKS[name](K, arguments.size)
        stable = bnfix.batch_invariant(model, arguments.batch_size)
        shape = tuple(model.inputs[0].shape[1:])
        x = np.random.default_rng(0).normal(size=(max(arguments.rows), *shape)).astype("float32")
        for rows in arguments.rows:
            part = x[:rows]
            plain, invariant = median_times(
                [
                    lambda part=part, model=model: model.predict(part, verbose=0),
                    lambda part=part, stable=stable: stable.predict(part),
                ],
                arguments.repeats,
            )
            print(
                f"{name:<12} {rows:>5} {plain:>7.1f} ms {invariant:>7.1f} ms "
                f"{invariant / plain:>6.2f}  {len(stable.positions)} of {stable.batch_size}"
            )


if __name__ == "__main__":
    main()
