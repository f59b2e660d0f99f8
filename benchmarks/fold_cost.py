"""What does folding cost, and what its proof?

    python -m benchmarks.fold_cost --kerases tf_keras

Folding without the proof against Keras's own `clone_model` and `set_weights`, which fold nothing;
the proof, which runs `predict`, `call` and compiled code of the new model and the old model
uncompiled, against the first `predict` of the old model on two rows, tracing included. The proof is
what `fold` takes with it less what it takes without. "least" is what no proof of these claims can
do without: the first `predict` and an uncompiled call of the new model, and one of the old.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import bnfix
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.reading import read
from bnfix.adapters.rebuilding import rebuild
from bnfix.adapters.subject import Subject
from bnfix.operations.samples import samples
from bnfix.passes import fold as fold_pass

from .benchmark import Benchmark, Row, Target
from .networks import TITLES, cloned, keras, network
from .running import alone
from .timing import interleaved


@dataclass(frozen=True)
class Options:
    kerases: tuple[str, ...] = ("keras", "tf_keras")
    networks: tuple[str, ...] = ("ResNet50", "MobileNetV2", "EfficientNetB0")
    size: int = 224
    repeats: int = 5


def measure(options: Options) -> Iterator[Row]:
    for dialect in options.kerases:
        K = keras(dialect)
        for name in options.networks:
            model = network(K, name, options.size)
            folded = unproven(model)
            calls = {
                "clone": partial(cloned, K, model),
                "unproven": partial(unproven, model),
                "first predict": partial(first_prediction, model),
                "fold": partial(bnfix.fold, model),
                "new predict": partial(first_prediction, folded),
                "new uncompiled": partial(uncompiled, folded),
                "old uncompiled": partial(uncompiled, model),
            }
            times = interleaved(calls, options.repeats, warm_up=1)
            proof = times["fold"] - times["unproven"]
            least = times["new predict"] + times["new uncompiled"] + times["old uncompiled"]
            ratios = {
                "unproven / clone": times["unproven"] / times["clone"],
                "proof": proof,
                "proof / predict": proof / times["first predict"],
                "least / predict": least / times["first predict"],
            }
            yield Row({"Keras": TITLES[dialect], "network": name}, {**times, **ratios})


def unproven(model: Any) -> Any:
    """What `fold` does, but for its proof."""
    reading = read(Subject.of(model), "fold")
    edit, _ = fold_pass.plan(reading)
    return rebuild(reading, edit).model


def first_prediction(model: Any) -> Any:
    adapter = adapter_of(model)
    with adapter.functions_kept(model):
        adapter.forget_functions(model)
        return model.predict(two_rows(model), verbose=0)


def uncompiled(model: Any) -> Any:
    return model(two_rows(model), training=False)


def two_rows(model: Any) -> Any:
    adapter = adapter_of(model)
    (x,) = next(samples([adapter.tensor_spec(tensor) for tensor in model.inputs], rows=2))
    return x


BENCHMARK = Benchmark(
    "fold_cost",
    __doc__,
    measure,
    full=Options(),
    quick=Options(kerases=("keras",), networks=("small",), size=32, repeats=1),
    targets=(
        Target("`fold` without proof / `clone_model` + `set_weights`", "unproven / clone", 0.9),
        Target(
            "proof of `fold` / first `predict`", "proof / predict", 1.0, bounds=("least / predict",)
        ),
    ),
)

if __name__ == "__main__":
    alone(BENCHMARK)
