"""What does `recalibrate(method="streaming")` cost, beside the exact method?

    python -m benchmarks.streaming_cost --images 256

Both on the same model, which both have seen before; beside them one compiled inference pass. What
is streamed is traced in every call, which weighs most where batches are few.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product

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
    images: tuple[int, ...] = (256, 1024)
    batch: int = 32
    repeats: int = 5


def measure(options: Options) -> Iterator[Row]:
    for dialect, name, number in product(options.kerases, options.networks, options.images):
        x = images(number, options.size)
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
        names = {"Keras": TITLES[dialect], "network": name, "images": f"{number:,}"}
        yield Row(names, {**times, **ratios})


BENCHMARK = Benchmark(
    "streaming_cost",
    __doc__,
    measure,
    full=Options(),
    quick=Options(kerases=("keras",), networks=("small",), size=32, images=(64,), repeats=1),
    targets=(
        Target("`streaming` / exact", "streaming / exact", 0.8, bounds=("streaming / inference",)),
    ),
)

if __name__ == "__main__":
    alone(BENCHMARK)
