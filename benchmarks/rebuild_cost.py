"""What does it cost to rebuild a model, and how does that grow with its depth?

    python -m benchmarks.rebuild_cost --kerases tf_keras

The copy that every transform is made from, against Keras's own `clone_model` and `set_weights`,
which copy no flags, states or compilation. Then a chain of pairs of a convolution and a BN against
one ten times as long: the ratio would be 10 if the cost grew exactly with the length, and Keras's
own beside it says how the cost of Keras's layers grows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from bnfix.adapters.reading import Reading
from bnfix.adapters.rebuilding import rebuild
from bnfix.adapters.subject import Subject
from bnfix.graph.edit import Edit

from .benchmark import Benchmark, Row, Target
from .networks import TITLES, chain, cloned, keras, network
from .running import alone
from .timing import interleaved


@dataclass(frozen=True)
class Options:
    kerases: tuple[str, ...] = ("keras", "tf_keras")
    networks: tuple[str, ...] = ("ResNet50", "EfficientNetB0")
    pairs: int = 100
    repeats: int = 5


def measure(options: Options) -> Iterator[Row]:
    for dialect in options.kerases:
        K, labels = keras(dialect), {"Keras": TITLES[dialect]}
        for name in options.networks:
            model = network(K, name, 64)
            times = interleaved(
                {"clone": partial(cloned, K, model), "copy": partial(rebuilt, model)},
                options.repeats,
                warm_up=1,
            )
            ratio = {"copy / clone": times["copy"] / times["clone"]}
            yield Row({**labels, "network": name}, {**times, **ratio})
        yield _chains(K, labels, options)


def _chains(K: Any, labels: dict[str, str], options: Options) -> Row:
    pairs = (options.pairs, 10 * options.pairs)
    sys.setrecursionlimit(50 * pairs[1])  # Keras's own copy calls itself once for each layer
    short, long = (f"chain of {number:,}" for number in pairs)
    calls: dict[str, Callable[[], Any]] = {}
    for name, number in zip((short, long), pairs, strict=True):
        model = chain(K, number, channels=4, size=8, kernel=1)
        calls[name] = partial(rebuilt, model)
        calls[f"{name}, clone"] = partial(cloned, K, model)
    times = interleaved(calls, options.repeats)
    ratios = {
        "long / short": times[long] / times[short],
        "clone: long / short": times[f"{long}, clone"] / times[f"{short}, clone"],
    }
    return Row(labels, {**times, **ratios}, table="Chains")


def rebuilt(model: Any) -> Any:
    return rebuild(Reading(Subject.of(model)), Edit()).model


BENCHMARK = Benchmark(
    "rebuild_cost",
    __doc__,
    measure,
    full=Options(),
    quick=Options(kerases=("keras",), networks=("small",), pairs=4, repeats=1),
    targets=(
        Target(
            "chain of 1,000 conv-BN pairs / one of 100",
            "long / short",
            11.0,
            bounds=("clone: long / short",),
        ),
    ),
)

if __name__ == "__main__":
    alone(BENCHMARK)
