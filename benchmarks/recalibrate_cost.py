"""What does `recalibrate` cost, in passes over the same data?

    python -m benchmarks.recalibrate_cost --networks MobileNetV2 --images 512

Against one compiled inference pass, traced before, which nothing can undercut, and against one
compiled training-mode pass, which is how statistics are usually re-estimated and which is not
exact. `recalibrate` gets a new model in each round, so that all that it traces is included; once
more it gets one that it has traced before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import bnfix

from .benchmark import Benchmark, Row, Target
from .calling import one_pass
from .networks import TITLES, images, keras, network
from .running import alone
from .timing import Fresh, interleaved


@dataclass(frozen=True)
class Options:
    kerases: tuple[str, ...] = ("keras", "tf_keras")
    networks: tuple[str, ...] = ("ResNet50", "MobileNetV2", "EfficientNetB0")
    size: int = 224
    images: int = 512
    small: tuple[str, ...] = ("ResNet50",)
    small_size: int = 96
    small_images: int = 256
    batch: int = 32
    repeats: int = 5


def measure(options: Options) -> Iterator[Row]:
    for dialect in options.kerases:
        K = keras(dialect)
        for name in options.small:
            yield _row(K, name, options.small_size, options.small_images, options)
        for name in options.networks:
            yield _row(K, name, options.size, options.images, options)


def _row(K: Any, name: str, size: int, count: int, options: Options) -> Row:
    x = images(count, size)
    model, seen = (network(K, name, size) for _ in range(2))
    recalibrate = partial(bnfix.recalibrate, ds=x, batch_size=options.batch, verbose=0)
    recalibrate(seen)
    calls = {
        "inference": one_pass(model, x, options.batch),
        "training loop": one_pass(model, x, options.batch, training=True),
        "recalibrate": Fresh(partial(network, K, name, size), recalibrate),
        "traced before": partial(recalibrate, seen),
    }
    times = interleaved(calls, options.repeats)
    ratios = {
        "recalibrate / inference": times["recalibrate"] / times["inference"],
        "recalibrate / training loop": times["recalibrate"] / times["training loop"],
        "traced before / inference": times["traced before"] / times["inference"],
        "training loop / inference": times["training loop"] / times["inference"],
    }
    labels = {
        "Keras": TITLES[K.__name__],
        "network": name,
        "images": f"{count} of {size} x {size}",
    }
    return Row(labels, {**times, **ratios})


def _targets() -> Iterator[Target]:
    for name, size, most in (
        ("ResNet50", "512 of 224 x 224", 1.2),
        ("ResNet50", "256 of 96 x 96", 1.4),
        ("MobileNetV2", "512 of 224 x 224", 1.4),
        ("EfficientNetB0", "512 of 224 x 224", 1.4),
    ):
        yield Target(
            f"exact recalibration / one inference pass, {name}, {size}",
            "recalibrate / inference",
            most,
            {"Keras": "Keras 3", "network": name, "images": size},
            ("training loop / inference", "traced before / inference"),
        )
    yield Target(
        "tf_keras: exact recalibration / its training-mode loop",
        "recalibrate / training loop",
        1.1,
        {"Keras": "tf_keras"},
        ("training loop / inference", "traced before / inference"),
    )


BENCHMARK = Benchmark(
    "recalibrate_cost",
    __doc__,
    measure,
    full=Options(),
    quick=Options(kerases=("keras",), networks=(), small=("small",), small_images=64, repeats=1),
    targets=tuple(_targets()),
)

if __name__ == "__main__":
    alone(BENCHMARK)
