"""How exact are the statistics, what do wrong ones cost, and how many images are enough?

    python -m benchmarks.recalibrate_accuracy --kerases tf_keras

The residual network of the demo, trained on scikit-learn's digits for two epochs. Distances of
statistics are in standard deviations of the true population, which is computed in float64 layer by
layer without bnfix; accuracies are on images that it was never trained on, of several draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import bnfix
from bnfix.demo import digits, digits_resnet

from .benchmark import Benchmark, Measured, Row, once
from .networks import TITLES, keras
from .running import alone

TRAINING = 1400
Statistics = list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]


@dataclass(frozen=True)
class Options:
    kerases: tuple[str, ...] = ("keras", "tf_keras")
    epochs: int = 2
    batches: tuple[int, ...] = (1, 2, 8, 32)
    outputs: tuple[int, ...] = (2, 8, 32, 128)
    images: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 1024, 1400)
    draws: int = 5


def measure(options: Options) -> Iterator[Row]:
    x, y = digits(0)
    training, test = (x[:TRAINING], y[:TRAINING]), (x[TRAINING:], y[TRAINING:])
    for dialect in options.kerases:
        K = keras(dialect)
        K.utils.set_random_seed(0)
        model = digits_resnet(K)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(*training, batch_size=32, epochs=options.epochs, verbose=0)
        wide = in_float64(K, model)
        truth = layer_by_layer(K, wide, training[0].astype(np.float64))
        yield from _rounding(K, model, wide, training[0], truth, options)
        yield from _outputs(K, model, training[0], test[0], truth, options)
        yield _enough(K, model, training[0], test, options)


def _rounding(
    K: Any, model: Any, wide: Any, x: Any, truth: Statistics, options: Options
) -> Iterator[Row]:
    def row(name: str, **found: float) -> Row:
        numbers = {key: once("sigma", off) for key, off in found.items()}
        labels = {"Keras": TITLES[K.__name__], "statistics": name}
        return Row(labels, numbers, table="Furthest statistic from a float64 pass of one batch")

    single = apart(layer_by_layer(K, model, x), truth)
    yield row("float32, one batch, in Keras's own arithmetic", off=single)
    for dtype, one in (("float32", model), ("float64", wide)):
        found: dict[str, float] = {}
        for batch in options.batches:
            bnfix.recalibrate(one, x.astype(dtype), batch_size=batch, verbose=0)
            found[f"batch size {batch}"] = apart(held(one), truth)
        yield row(f"recalibrate in {dtype}", **found)


def _outputs(
    K: Any, model: Any, x: Any, x_test: Any, truth: Statistics, options: Options
) -> Iterator[Row]:
    put(model, truth)
    wanted = model.predict(x_test, verbose=0)
    for method in ("streaming", "exact"):
        found: dict[str, dict[str, Measured]] = {"mean": {}, "largest": {}}
        for batch in options.outputs:
            bnfix.recalibrate(model, x, method=method, batch_size=batch, verbose=0)
            off = np.abs(model.predict(x_test, verbose=0) - wanted)
            for kind, value in (("mean", off.mean()), ("largest", off.max())):
                found[kind][f"batch size {batch}"] = once("of a probability", value)
        for kind, numbers in found.items():
            labels = {"Keras": TITLES[K.__name__], "method": method, "error": kind}
            yield Row(labels, numbers, table="Outputs against those with the true statistics")


def _enough(K: Any, model: Any, x: Any, test: tuple[Any, Any], options: Options) -> Row:
    rng = np.random.default_rng(0)
    numbers: dict[str, Measured] = {}
    for images in options.images:
        found: list[float] = []
        for _ in range(options.draws):
            drawn = rng.permutation(len(x))[:images]
            bnfix.recalibrate(model, x[drawn], verbose=0)
            right = model.predict(test[0], verbose=0).argmax(-1) == test[1]
            found.append(100 * float(np.mean(right)))
        numbers[f"{images:,}"] = Measured("%", tuple(found))
    return Row({"Keras": TITLES[K.__name__]}, numbers, table="Accuracy by calibration images")


def norms(model: Any) -> list[Any]:
    return [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]


def held(model: Any) -> Statistics:
    return [
        (np.asarray(n.moving_mean, np.float64), np.asarray(n.moving_variance, np.float64))
        for n in norms(model)
    ]


def put(model: Any, statistics: Statistics) -> None:
    for norm, (mean, variance) in zip(norms(model), statistics, strict=True):
        norm.moving_mean.assign(mean.astype(np.float32))
        norm.moving_variance.assign(variance.astype(np.float32))


def apart(found: Statistics, truth: Statistics) -> float:
    """Largest distance of any mean or standard deviation, in true standard deviations."""
    worst = 0.0
    for (mean, variance), (true_mean, true_variance) in zip(found, truth, strict=True):
        sigma = np.sqrt(true_variance)
        worst = max(worst, float(np.max(np.abs(mean - true_mean) / sigma)))
        worst = max(worst, float(np.max(np.abs(np.sqrt(variance) / sigma - 1))))
    return worst


def in_float64(K: Any, model: Any) -> Any:
    policies = K.mixed_precision if K.__name__ == "tf_keras" else K.config
    name = "set_global_policy" if K.__name__ == "tf_keras" else "set_dtype_policy"
    try:
        K.backend.set_floatx("float64")
        getattr(policies, name)("float64")
        wide = digits_resnet(K)
    finally:
        K.backend.set_floatx("float32")
        getattr(policies, name)("float32")
    wide.set_weights(model.get_weights())
    return wide


def layer_by_layer(K: Any, model: Any, x: Any) -> Statistics:
    """Statistics of one batch of all of `x`, by the model's own arithmetic and none of bnfix's.

    A BN's own input is what the model gives up to there, once the BNs before it hold the
    statistics of theirs.
    """
    before = model.get_weights()
    for norm in norms(model):
        reach = K.Model(model.inputs, norm.input)([x], training=False)
        values = K.ops.convert_to_tensor(reach) if hasattr(K, "ops") else reach
        mean, variance = moments(K, values)
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(variance)
    found = held(model)
    model.set_weights(before)
    return found


def moments(K: Any, values: Any) -> tuple[Any, Any]:
    """As the Keras itself computes them in training."""
    if hasattr(K, "ops"):
        return K.ops.moments(values, axes=[0, 1, 2])
    import tensorflow as tf

    return tf.nn.moments(values, axes=[0, 1, 2])


BENCHMARK = Benchmark(
    "recalibrate_accuracy",
    __doc__,
    measure,
    full=Options(),
    quick=Options(
        kerases=("keras",), epochs=1, batches=(32,), outputs=(32,), images=(64,), draws=1
    ),
    requires=("sklearn",),
)

if __name__ == "__main__":
    alone(BENCHMARK)
