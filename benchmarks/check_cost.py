"""What does `check` of a model without a fault cost, in calls of `predict` on the same rows?

    python -m benchmarks.check_cost --networks MobileNetV2

The first call compiles what it tries; the second finds it compiled. `predict` has been called
before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import bnfix

from .benchmark import Benchmark, Row, Target
from .networks import TITLES, images, keras, network
from .running import alone
from .timing import interleaved


@dataclass(frozen=True)
class Options:
    kerases: tuple[str, ...] = ("keras", "tf_keras")
    networks: tuple[str, ...] = ("ResNet50", "MobileNetV2")
    size: int = 224
    rows: int = 8
    repeats: int = 5


def measure(options: Options) -> Iterator[Row]:
    for dialect in options.kerases:
        for name in options.networks:
            model = network(keras(dialect), name, options.size)
            x = images(options.rows, options.size)
            check = partial(bnfix.check, model, x, rows=options.rows, verbose=0)
            first = interleaved({"first check": check}, 1)
            predict = partial(model.predict, x, batch_size=options.rows, verbose=0)
            times = interleaved({"predict": predict, "check": check}, options.repeats, warm_up=1)
            numbers = {**first, **times, "check / predict": times["check"] / times["predict"]}
            yield Row({"Keras": TITLES[dialect], "network": name}, numbers)


BENCHMARK = Benchmark(
    "check_cost",
    __doc__,
    measure,
    full=Options(),
    quick=Options(kerases=("keras",), networks=("small",), size=32, repeats=1),
    targets=(
        Target(
            "`check` of a clean ResNet50, second call / one `predict` of the same rows",
            "check / predict",
            4.0,
            {"network": "ResNet50"},
        ),
    ),
)

if __name__ == "__main__":
    alone(BENCHMARK)
