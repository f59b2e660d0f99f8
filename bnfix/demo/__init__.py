"""The whole story on real images, in half a minute: trained well, predicts badly, repaired.

A small residual network (He et al. 2015, arXiv:1512.03385) learns scikit-learn's digits for two
epochs. With the default momentum of 0.99 its moving statistics after n steps still hold 0.99^n of
their initial 0 and 1, so `predict` is far from what training saw.
"""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import bnfix
from bnfix.adapters import kerases
from bnfix.adapters.choose import adapter_of
from bnfix.demo.result import DemoResult, Step
from bnfix.errors import BnfixError

_TRAINING_IMAGES = 1400
_BATCH_SIZE = 32
_SPEED_REPEATS = 15


def run(*, epochs: int = 2, seed: int = 0, keras: str = "keras") -> DemoResult:
    """Train, check, recalibrate, fold, check.

    Args:
        epochs: Of training; the more, the smaller the fault.
        seed: Of the weights, and of the order of images.
        keras: "keras" or "tf_keras".

    Raises:
        BnfixError: scikit-learn, matplotlib or the Keras is not installed.
    """
    check_extra()
    if problem := kerases.problem_with(keras) or kerases.problem_with_seeds(keras):
        raise BnfixError(f"the demo cannot run on {keras}. {problem}.")
    x, y = digits(seed)
    training, test = slice(None, _TRAINING_IMAGES), slice(_TRAINING_IMAGES, None)
    K = importlib.import_module(keras)
    K.utils.set_random_seed(seed)
    model = digits_resnet(K)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x[training], y[training], batch_size=_BATCH_SIZE, epochs=epochs, verbose=0)
    data = x[training], y[training], x[test], y[test]
    steps = [_step("as trained", model, data)]
    batch_accuracy = _accuracy(_by_batch_statistics(model, x[test]), y[test])
    model, recalibration = bnfix.recalibrate(model, x[training], return_report=True)
    steps.append(_step("recalibrated", model, data))
    steps.append(_step("folded", bnfix.fold(model), data))
    fitted = float(history.history["accuracy"][-1])
    return DemoResult(fitted, batch_accuracy, tuple(steps), recalibration)


def digits_resnet(K: Any) -> Any:
    """Nine BatchNormalizations of default momentum over 8x8x1 images; softmax over ten digits."""
    L = K.layers

    def conv_bn(x: Any, filters: int, size: int = 3, stride: int = 1) -> Any:
        conv = L.Conv2D(filters, size, strides=stride, padding="same", use_bias=False)
        return L.BatchNormalization()(conv(x))

    inputs = K.Input((8, 8, 1))
    x = L.ReLU()(conv_bn(inputs, 32))
    for filters, stride in ((32, 1), (64, 2), (64, 1)):
        y = conv_bn(L.ReLU()(conv_bn(x, filters, stride=stride)), filters)
        shortcut = x if stride == 1 else conv_bn(x, filters, 1, stride)
        x = L.ReLU()(L.Add()([shortcut, y]))
    x = L.ReLU()(conv_bn(x, 128))
    outputs = L.Dense(10, activation="softmax")(L.GlobalAveragePooling2D()(x))
    return K.Model(inputs, outputs, name="digits_resnet")


def show(result: DemoResult, out: Path) -> None:
    """Print the before-and-after table and write the picture to `out`."""
    from rich.console import Console
    from rich.table import Table

    from bnfix.demo.picture import draw_repair

    console = Console()
    table = Table(
        title="A small residual network on 1,797 real digits",
        caption=f"fit showed {result.fit_accuracy:.1%} in training; normalized by their own batch, "
        f"{result.batch_accuracy:.1%} of the test images are recognised",
        min_width=76,
    )
    table.add_column("model")
    for column in ("training", "test", "BN", "predict"):
        table.add_column(column, justify="right")
    table.add_column("check")
    for step in result.steps:
        table.add_row(
            step.name,
            f"{step.training_accuracy:.1%}",
            f"{step.test_accuracy:.1%}",
            str(step.batch_norms),
            f"{step.milliseconds:.0f} ms",
            "batch-invariant" if step.check.ok else str(step.check.culprit),
        )
    console.print(table)
    console.print(str(result.recalibration), highlight=False, soft_wrap=True)
    draw_repair(result, out)
    console.print(f"picture: {out}", highlight=False)


def check_extra() -> None:
    """All that the demo needs, found out before the training rather than after it."""
    try:
        for name in ("sklearn.datasets", "matplotlib"):
            importlib.import_module(name)
    except ImportError as error:
        raise BnfixError(
            'the demo needs scikit-learn and matplotlib: pip install "bnfix[demo]".'
        ) from error


def digits(seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """1,797 images (8, 8, 1) in [0, 1] and their digits, shuffled."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    x = (np.asarray(images)[order] / 16).reshape(-1, 8, 8, 1).astype(np.float32)
    return x, np.asarray(labels)[order]


def _step(name: str, model: Any, data: tuple[Any, Any, Any, Any]) -> Step:
    x, y, x_test, y_test = data
    predicted = model.predict(x_test, batch_size=len(x_test), verbose=0)  # traces, so not timed
    seconds: list[float] = []
    for _ in range(_SPEED_REPEATS):
        begin = time.perf_counter()
        predicted = model.predict(x_test, batch_size=len(x_test), verbose=0)
        seconds.append(time.perf_counter() - begin)
    left = sum("BatchNormalization" in type(layer).__name__ for layer in model.layers)
    return Step(
        name=name,
        training_accuracy=_accuracy(model.predict(x, verbose=0), y),
        test_accuracy=_accuracy(predicted, y_test),
        batch_norms=left,
        milliseconds=float(np.median(seconds)) * 1000,
        check=bnfix.check(model, x_test),
    )


def _by_batch_statistics(model: Any, x: Any) -> Any:
    """Outputs in training mode, which this network leaves without dropout; weights are put back."""
    adapter, before = adapter_of(model), model.get_weights()
    with adapter.inference():
        outputs = adapter.to_numpy(model(x, training=True))
    model.set_weights(before)
    return outputs


def _accuracy(probabilities: Any, digits: Any) -> float:
    return float(np.mean(np.argmax(probabilities, axis=-1) == digits))
