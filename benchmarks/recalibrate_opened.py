"""What does `recalibrate` of a subclassed model cost, against the same model as a graph?

    python -m benchmarks.recalibrate_opened --repeats 5

The graph is what `bnfix.open_up` makes of the model, so both compute the same; what a subclassed
model costs more is having its code recorded, each time anew, and compared with what was recorded.
The engine that runs the code itself, as for code that cannot be recorded, is timed beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import bnfix
from bnfix.recalibration import estimate

from .benchmark import Benchmark, Row
from .networks import TITLES, images, keras
from .running import alone
from .timing import interleaved


@dataclass(frozen=True)
class Options:
    kerases: tuple[str, ...] = ("keras", "tf_keras")
    images: int = 512
    size: int = 64
    batch: int = 32
    blocks: int = 2
    repeats: int = 5


def measure(options: Options) -> Iterator[Row]:
    x = images(options.images, options.size)
    for dialect in options.kerases:
        K = keras(dialect)
        K.utils.set_random_seed(0)
        model = resnet(K, (32, 64, 128), options.blocks)
        model(x[:2])
        again = partial(bnfix.recalibrate, ds=x, batch_size=options.batch, verbose=0)
        calls = {
            "as a graph": partial(again, bnfix.open_up(model)),
            "subclassed": partial(again, model),
            "by running its code": partial(_by_running, partial(again, model)),
        }
        times = interleaved(calls, options.repeats, warm_up=1)
        ratios = {
            f"{name} / graph": times[name] / times["as a graph"]
            for name in ("subclassed", "by running its code")
        }
        yield Row({"Keras": TITLES[dialect]}, {**times, **ratios})


def _by_running(recalibrate: Any) -> None:
    with mock.patch.object(estimate, "opened", lambda *a, **_: (None, a[1])):
        recalibrate()


def resnet(K: Any, filters: tuple[int, ...], blocks: int) -> Any:
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


BENCHMARK = Benchmark(
    "recalibrate_opened",
    __doc__,
    measure,
    full=Options(),
    quick=Options(kerases=("keras",), images=64, size=32, blocks=1, repeats=1),
)

if __name__ == "__main__":
    alone(BENCHMARK)
