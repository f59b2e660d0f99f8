"""What does `recalibrate(method="streaming")` cost, beside the exact method?

    python -m benchmarks.streaming_cost --images 256

Both on the same model, which both have seen before; beside them one compiled inference pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import bnfix

from .benchmark import Benchmark, Row, Target
from .calling import one_pass
from .networks import TITLES, images, keras, network
from .running import alone
from .timing import interleaved


@dataclass(frozen=True)
class Options:
    kerases: tuple[str, ...] = ("keras", "tf_keras")
    networks: tuple[str, ...] = ("ResNet50", "MobileNetV2")
    size: int = 96
    images: int = 256
    batch: int = 32
    repeats: int = 5


def measure(options: Options) -> Iterator[Row]:
    x = images(options.images, options.size)
    for dialect in options.kerases:
        for name in options.networks:
            model = network(keras(dialect), name, options.size)
            again = partial(bnfix.recalibrate, model, x, batch_size=options.batch, verbose=0)
            calls = {
                "inference": one_pass(model, x, options.batch),
                "exact": again,
                "streaming": partial(again, method="streaming"),
            }
            times = interleaved(calls, options.repeats, warm_up=1)
            ratios = {
                "streaming / exact": times["streaming"] / times["exact"],
                "streaming / inference": times["streaming"] / times["inference"],
            }
            yield Row({"Keras": TITLES[dialect], "network": name}, {**times, **ratios})


BENCHMARK = Benchmark(
    "streaming_cost",
    __doc__,
    measure,
    full=Options(),
    quick=Options(kerases=("keras",), networks=("small",), size=32, images=64, repeats=1),
    targets=(
        Target("`streaming` / exact", "streaming / exact", 0.8, bound="streaming / inference"),
    ),
)

if __name__ == "__main__":
    alone(BENCHMARK)
