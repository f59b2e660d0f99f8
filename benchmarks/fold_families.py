"""What does `fold` do to every family of `keras.applications`?

    python -m benchmarks.fold_families --kerases tf_keras --networks ResNet50 VGG16

One network a family, with random statistics: BNs in the network, folded, left; the largest
difference of the outputs; the time of `fold`, its proof included, over that of `clone_model` and
`set_weights`; latency before over after, under `tf.function`; and what stops the rest, by kinds of
layers, with the number of BNs that it holds for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import bnfix

from .benchmark import Benchmark, Measured, Row, Skipped, once
from .calling import WARM_UP, compiled, difference, on
from .networks import TITLES, cloned, images, keras, network
from .running import alone
from .timing import interleaved

#: A reason that names layers without their kinds.
_ELSEWHERE = re.compile(r"\S+ also feeds [^;]+")


@dataclass(frozen=True)
class Options:
    kerases: tuple[str, ...] = ("keras", "tf_keras")
    networks: tuple[str, ...] = (
        *("ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0"),
        *("InceptionResNetV2", "InceptionV3", "MobileNet", "MobileNetV2", "MobileNetV3Small"),
        *("MobileNetV3Large", "NASNetMobile", "RegNetX002", "RegNetY002", "ResNet50"),
        *("ResNet101V2", "ResNetRS50", "VGG16", "VGG19", "Xception"),
    )
    size: int = 224
    batches: tuple[int, ...] = (1, 8)
    runs: int = 11
    repeats: int = 5


def measure(options: Options) -> Iterator[Row | Skipped]:
    for dialect in options.kerases:
        K = keras(dialect)
        for name in options.networks:
            if hasattr(K.applications, name):
                yield _row(K, name, options)
            else:
                yield Skipped(f"{name} in {TITLES[dialect]}", "it has no such application")
            K.backend.clear_session()


def _row(K: Any, name: str, options: Options) -> Row:
    model = network(K, name, options.size)
    making = {"clone": partial(cloned, K, model), "fold": partial(bnfix.fold, model)}
    times = interleaved(making, options.repeats)
    folded, report = bnfix.fold(model, return_report=True)
    calls = {"before": compiled(model), "after": compiled(folded)}
    gains: dict[str, Measured] = {}
    apart = 0.0
    for rows in options.batches:
        x = images(rows, options.size)
        taken = interleaved(on(x, calls), options.runs, warm_up=WARM_UP)
        gains[f"batch {rows}"] = taken["before"] / taken["after"]
        apart = max(apart, difference(calls["after"](x), calls["before"](x)))
    why = Counter(_kinds(outcome.detail) for outcome in report.declined)
    return Row(
        {"Keras": TITLES[K.__name__], "network": name},
        {
            "BN": once("count", len(report.outcomes)),
            "folded": once("count", len(report.changed)),
            "left": once("count", len(report.declined)),
            "outputs differ": once("of the largest", apart),
            "fold / clone": times["fold"] / times["clone"],
            **gains,
        },
        {"why the rest stays": "; ".join(f"{n}: {kinds}" for kinds, n in why.most_common())},
    )


def _kinds(detail: str) -> str:
    """The reasons with names left out where the kind of layer is told."""
    detail = _ELSEWHERE.sub("others read the same", detail)
    detail = re.sub(r"\S+ \((\w+)\)", r"\1", detail)
    detail = re.sub(r"\S+ (applies|is an output)", r"a layer \1", detail)
    return re.sub(r", which is not a linear layer", "", detail)


BENCHMARK = Benchmark(
    "fold_families",
    __doc__,
    measure,
    full=Options(),
    quick=Options(
        kerases=("keras",), networks=("MobileNet",), size=64, batches=(1,), runs=2, repeats=1
    ),
)

if __name__ == "__main__":
    alone(BENCHMARK)
