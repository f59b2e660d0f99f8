"""Training on with batches of two: what does BN learn, and the GroupNormalization made of it?

    python -m benchmarks.group_norm_digits --seeds 2

A residual network learns digits with batches of 32. Then it goes on with batches of two, as it is
and converted, at several seeds, with SGD and a learning rate of 0.001; before and after each epoch
its accuracy on images that it was never trained on is taken, once one at a time and once 32 at a
time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import bnfix
from bnfix.demo import digits, digits_resnet

from .benchmark import Benchmark, Measured, Row
from .networks import TITLES, keras
from .running import alone

LOSS = "sparse_categorical_crossentropy"
TRAINED = 1400


@dataclass(frozen=True)
class Options:
    kerases: tuple[str, ...] = ("keras",)
    before: int = 4  # epochs in batches of 32
    epochs: int = 3
    seeds: int = 5


def measure(options: Options) -> Iterator[Row]:
    for dialect in options.kerases:
        K = keras(dialect)
        curves = np.array([courses(K, seed, options) for seed in range(options.seeds)])
        for at, rows in enumerate((1, 32)):
            for epoch in range(options.epochs + 1):
                found = 100 * curves[:, :, epoch, at]
                yield Row(
                    {"Keras": TITLES[dialect], "epochs in batches of two": str(epoch)},
                    {
                        name: Measured("%", tuple(map(float, found[:, kind])))
                        for kind, name in enumerate(("BN", "converted to GN"))
                    },
                    table=f"Accuracy, {rows} at once",
                    at=epoch,
                )


def courses(K: Any, seed: int, options: Options) -> list[list[tuple[float, float]]]:
    """Accuracies of both networks, before and after each epoch with batches of two."""
    x, y = digits(seed)
    K.utils.set_random_seed(seed)
    bn = digits_resnet(K)
    bn.compile("adam", LOSS, metrics=["accuracy"])
    bn.fit(x[:TRAINED], y[:TRAINED], batch_size=32, epochs=options.before, verbose=0)
    bnfix.recalibrate(bn, x[:TRAINED], verbose=0)
    gn = bnfix.to_group_norm(bn, x[:TRAINED], verbose=0)
    return [course(K, model, (x, y), seed, options.epochs) for model in (bn, gn)]


def course(K: Any, model: Any, data: Any, seed: int, epochs: int) -> list[tuple[float, float]]:
    x, y = data
    found = [accuracies(model, x[TRAINED:], y[TRAINED:])]
    model.compile(K.optimizers.SGD(1e-3), LOSS, metrics=["accuracy"])
    K.utils.set_random_seed(seed)
    for _ in range(epochs):
        model.fit(x[:TRAINED], y[:TRAINED], batch_size=2, verbose=0)
        found.append(accuracies(model, x[TRAINED:], y[TRAINED:]))
    return found


def accuracies(model: Any, x: Any, y: Any) -> tuple[float, float]:
    """One image at a time, and 32 at a time."""
    answers = (model.predict(x, batch_size=rows, verbose=0) for rows in (1, 32))
    one, many = (float(np.mean(np.argmax(answer, axis=-1) == y)) for answer in answers)
    return one, many


BENCHMARK = Benchmark(
    "group_norm_digits",
    __doc__,
    measure,
    full=Options(),
    quick=Options(before=1, epochs=0, seeds=1),
    requires=("sklearn",),
)

if __name__ == "__main__":
    alone(BENCHMARK)
