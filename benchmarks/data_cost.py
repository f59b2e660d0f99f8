"""What does `recalibrate` cost on many small rows, against `predict` on the same?

    python benchmarks/data_cost.py --rows 1000000

A million rows of ten features in batches of 32 are 31,250 batches: what is done for each of them
in Python decides.
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import bnfix


def main() -> None:
    options = _options()
    K = importlib.import_module(options.keras)
    x = np.random.default_rng(0).normal(size=(options.rows, 10)).astype("float32")
    model = _network(K)
    model.predict(x[:64], batch_size=32, verbose=0)
    predicting = _seconds(lambda: model.predict(x, batch_size=32, verbose=0))
    print(f"{'predict':<24}{predicting:>8.1f} s", flush=True)
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "recalibrate, arrays": (x, {}),
        "recalibrate, generator": ((x[i : i + 32] for i in range(0, len(x), 32)), {}),
        "streaming, arrays": (x, {"method": "streaming"}),
    }
    for name, (ds, more) in kinds.items():
        taken = _seconds(lambda ds=ds, more=more: bnfix.recalibrate(model, ds, verbose=0, **more))
        print(f"{name:<24}{taken:>8.1f} s{taken / predicting:>8.2f} x", flush=True)


def _network(K: Any) -> Any:
    L = K.layers
    inputs = K.Input((10,))
    x = inputs
    for _ in range(2):
        x = L.ReLU()(L.BatchNormalization()(L.Dense(32)(x)))
    return K.Model(inputs, L.Dense(1)(x))


def _seconds(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keras", default="keras", choices=("keras", "tf_keras"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
