"""What does a second `recalibrate` of the same small model cost, in passes over the same data?

    python -m benchmarks.small_jobs --images 1400

Against one compiled inference pass, traced before, and what merging the moments of the batches
takes: of each BN one part a batch, in float64. The first call traces the model; how much of that
the second still pays is the question.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import bnfix
from bnfix.demo import digits_resnet
from bnfix.numerics.moments import ChannelMoments

from .benchmark import Benchmark, Row, Target
from .calling import one_pass
from .networks import TITLES, keras
from .running import alone
from .timing import interleaved


@dataclass(frozen=True)
class Options:
    kerases: tuple[str, ...] = ("keras", "tf_keras")
    images: int = 1408
    batch: int = 32
    repeats: int = 7


def measure(options: Options) -> Iterator[Row]:
    x = np.random.default_rng(0).random((options.images, 8, 8, 1), np.float32)
    for dialect in options.kerases:
        K = keras(dialect)
        K.utils.set_random_seed(0)
        model = digits_resnet(K)
        again = partial(bnfix.recalibrate, model, x, batch_size=options.batch, verbose=0)
        first = interleaved({"first call": again}, 1)
        calls = {
            "inference": one_pass(model, x, options.batch),
            "merge": partial(merged, channels(model), options.images // options.batch),
            "second call": again,
        }
        times = interleaved(calls, options.repeats, warm_up=1)
        ratio = times["second call"] / (times["inference"] + times["merge"])
        yield Row(
            {"Keras": TITLES[dialect], "network": "digits_resnet"},
            {**first, **times, "second / (inference + merge)": ratio},
        )


def channels(model: Any) -> list[int]:
    """Those of each BN."""
    return [
        int(layer.moving_mean.shape[0])
        for layer in model.layers
        if "BatchNormalization" in type(layer).__name__
    ]


def merged(widths: list[int], batches: int) -> None:
    for width in widths:
        moments, part = ChannelMoments(width), np.ones(width)
        for _ in range(batches):
            moments.merge(1, part, part)


BENCHMARK = Benchmark(
    "small_jobs",
    __doc__,
    measure,
    full=Options(),
    quick=Options(kerases=("keras",), images=256, repeats=2),
    targets=(
        Target(
            "small jobs: second call on the same model / (inference + merge)",
            "second / (inference + merge)",
            1.05,
        ),
    ),
    requires=("sklearn",),
)

if __name__ == "__main__":
    alone(BENCHMARK)
