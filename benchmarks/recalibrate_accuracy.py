"""How exact are the statistics, what do wrong ones cost, and how many images are enough?

    python benchmarks/recalibrate_accuracy.py --keras tf_keras

The residual network of the demo, trained on scikit-learn's digits for two epochs.
"""

from __future__ import annotations

import argparse
import importlib
import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import numpy.typing as npt

import bnfix
from bnfix.demo import digits, digits_resnet

TRAINING = 1400
Statistics = list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]


def main() -> None:
    options = _options()
    K = importlib.import_module(options.keras)
    x, y = digits(0)
    training, test = (x[:TRAINING], y[:TRAINING]), (x[TRAINING:], y[TRAINING:])
    K.utils.set_random_seed(0)
    model = digits_resnet(K)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*training, batch_size=32, epochs=2, verbose=0)
    wide = in_float64(K, model)
    truth = layer_by_layer(K, wide, training[0].astype(np.float64))
    _rounding(K, model, wide, training[0], truth)
    _outputs(K, model, training[0], test[0], truth)
    _images(model, training[0], test)


def _rounding(K: Any, model: Any, wide: Any, x: Any, truth: Statistics) -> None:
    print("largest distance from a float64 single-batch pass, in sigma")
    single = apart(layer_by_layer(K, model, x), truth)
    print(f"  {'float32 single-batch pass':<28}{single:.2g}")
    for dtype, one in (("float32", model), ("float64", wide)):
        for batch in (1, 2, 8, 32):
            bnfix.recalibrate(one, x.astype(dtype), batch_size=batch, verbose=0)
            off = apart(held(one), truth)
            print(f"  {f'{dtype}, batch size {batch}':<28}{off:.2g}", flush=True)


def _outputs(K: Any, model: Any, x: Any, x_test: Any, truth: Statistics) -> None:
    print("error of the outputs (softmax) against those with the true statistics, mean and largest")
    put(model, truth)
    wanted = model.predict(x_test, verbose=0)
    for method in ("streaming", "exact"):
        for batch in (2, 8, 32, 128):
            bnfix.recalibrate(model, x, method=method, batch_size=batch, verbose=0)
            off = np.abs(model.predict(x_test, verbose=0) - wanted)
            print(f"  {f'{method}, batch size {batch}':<28}{off.mean():.2g}{off.max():>12.2g}")


def _images(model: Any, x: Any, test: tuple[Any, Any]) -> None:
    print("accuracy on the test images by the number of calibration images, five draws")
    rng = np.random.default_rng(0)
    for images in (16, 32, 64, 128, 256, 512, 1024, 1400):
        found: list[float] = []
        for _ in range(5):
            drawn = rng.permutation(len(x))[:images]
            bnfix.recalibrate(model, x[drawn], verbose=0)
            found.append(float(np.mean(model.predict(test[0], verbose=0).argmax(-1) == test[1])))
        print(f"  {images:<28}{np.mean(found):.1%}{min(found):>10.1%} to {max(found):.1%}")


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


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keras", choices=("keras", "tf_keras"), default="keras")
    return parser.parse_args()


if __name__ == "__main__":
    main()
