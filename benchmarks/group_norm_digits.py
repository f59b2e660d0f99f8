"""Training on with batches of two: BatchNormalization against the GroupNormalization made of it.

    python benchmarks/group_norm_digits.py --out docs/batches_of_two.png

A residual network learns digits with batches of 32. Then it goes on with batches of two, as it is
and converted, at several seeds; after each epoch its accuracy on images that it was never trained
on is taken, once one at a time and once 32 at a time.
"""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from matplotlib.figure import Figure

import bnfix
from bnfix.demo import digits, digits_resnet

LOSS = "sparse_categorical_crossentropy"
TRAINED = 1400


def main() -> None:
    options = _options()
    K = importlib.import_module(options.keras)
    curves = np.array([courses(K, seed, options.epochs) for seed in range(options.seeds)])
    print(
        f"{'epochs at batch 2':<18}" + "".join(f"{epoch:>8}" for epoch in range(options.epochs + 1))
    )
    for at, rows in enumerate((1, 32)):
        for kind, name in enumerate(("BN", "GN")):
            shown = "".join(f"{value:>8.1%}" for value in curves[:, kind, :, at].mean(axis=0))
            print(f"{name}, asked {rows:>2} at once {shown}")
    draw(curves[..., 0], options.out)


def courses(K: Any, seed: int, epochs: int) -> list[list[tuple[float, float]]]:
    """Accuracies of both networks, before and after each epoch with batches of two."""
    x, y = digits(seed)
    K.utils.set_random_seed(seed)
    bn = digits_resnet(K)
    bn.compile("adam", LOSS, metrics=["accuracy"])
    bn.fit(x[:TRAINED], y[:TRAINED], batch_size=32, epochs=4, verbose=0)
    bnfix.recalibrate(bn, x[:TRAINED], verbose=0)
    gn = bnfix.to_group_norm(bn, x[:TRAINED], verbose=0)
    return [course(K, model, (x, y), seed, epochs) for model in (bn, gn)]


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


def draw(curves: Any, out: Path) -> None:
    """`curves` is (seeds, 2, epochs + 1)."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    epochs = np.arange(curves.shape[-1])
    for kind, (name, colour) in enumerate(
        (("BatchNormalization", "#D55E00"), ("converted to GroupNormalization", "#0072B2"))
    ):
        axes.plot(epochs, 100 * curves[:, kind].T, color=colour, linewidth=1, alpha=0.35)
        axes.plot(
            epochs,
            100 * curves[:, kind].mean(axis=0),
            color=colour,
            linewidth=2.5,
            marker="o",
            label=name,
        )
    axes.set_xticks(epochs)
    axes.set_xlabel("epochs of training on with batches of two")
    axes.set_ylabel("accuracy on test images (%)")
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("batches_of_two.png"))
    parser.add_argument("--keras", choices=("keras", "tf_keras"), default="keras")
    return parser.parse_args()


if __name__ == "__main__":
    main()
