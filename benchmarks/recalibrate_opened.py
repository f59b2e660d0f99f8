"""What does `recalibrate` of a subclassed model cost, against the same model as a graph?

    python benchmarks/recalibrate_opened.py --repeats 5

The graph is what `bnfix.open_up` makes of the model, so both compute the same; what a subclassed
model costs more is having its code recorded, each time anew, and compared with what was recorded.
The engine that runs the code itself, as for code that cannot be recorded, is timed beside them.
"""

from __future__ import annotations

import argparse
import importlib
import os
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from timing import interleaved

import bnfix
from bnfix.recalibration import estimate


def network(K: Any, filters: tuple[int, ...], blocks: int) -> Any:
    """A ResNet as tutorials write it: a subclassed model of blocks that are layers."""
    L = K.layers

    class Block(L.Layer):
        def __init__(self, filters: int, strides: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            same = {"padding": "same", "use_bias": False}
            self.conv1, self.bn1 = L.Conv2D(filters, 3, strides, **same), L.BatchNormalization()
            self.conv2, self.bn2 = L.Conv2D(filters, 3, **same), L.BatchNormalization()
            self.shortcut = L.Conv2D(filters, 1, strides, **same)
            self.bn3, self.relu = L.BatchNormalization(), L.ReLU()

        def call(self, x: Any, training: Any = None) -> Any:
            y = self.relu(self.bn1(self.conv1(x), training=training))
            y = self.bn2(self.conv2(y), training=training)
            return self.relu(y + self.bn3(self.shortcut(x), training=training))

    class ResNet(K.Model):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.stem = L.Conv2D(filters[0], 3, padding="same")
            self.blocks = [
                Block(width, 2 if at == 0 else 1) for width in filters for at in range(blocks)
            ]
            self.pool, self.head = L.GlobalAveragePooling2D(), L.Dense(10)

        def call(self, x: Any, training: Any = None) -> Any:
            x = self.stem(x)
            for block in self.blocks:
                x = block(x, training=training)
            return self.head(self.pool(x))

    return ResNet()


def main() -> None:
    options = _options()
    for name in options.keras:
        K = importlib.import_module(name)
        K.utils.set_random_seed(0)
        x = np.random.default_rng(0).random((options.images, options.size, options.size, 3), "f4")
        model = network(K, (32, 64, 128), options.blocks)
        model(x[:2])
        graph = bnfix.open_up(model)

        def recalibrated(which: Any, x: Any = x) -> None:
            bnfix.recalibrate(which, x, batch_size=options.batch, verbose=0)

        def by_running(which: Any = model, x: Any = x) -> None:
            with mock.patch.object(estimate, "opened", lambda *a, **_: (None, a[2])):
                recalibrated(which)

        calls = [lambda: recalibrated(graph), lambda: recalibrated(model), by_running]  # noqa: B023
        as_graph, as_code, run = interleaved(calls, options.repeats, warm_up=1)
        print(
            f"{name:<10}{as_graph:>8.2f} s as a graph {as_code:>8.2f} s subclassed, "
            f"{as_code / as_graph:.2f} x {run:>8.2f} s by running its code, "
            f"{run / as_graph:.2f} x",
            flush=True,
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=512, help="default: %(default)s")
    parser.add_argument("--size", type=int, default=64, help="of an image (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="rows (default: %(default)s)")
    parser.add_argument("--blocks", type=int, default=2, help="a stage (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--keras", nargs="+", default=["keras", "tf_keras"], metavar="NAME")
    return parser.parse_args()


if __name__ == "__main__":
    main()
