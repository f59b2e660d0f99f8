"""How much faster is a model whose BatchNormalization has been folded away?

    python benchmarks/fold_speed.py --networks ResNet50 --batches 1 8

Both models run under `tf.function`, as in serving, and take turns.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from timing import interleaved

import bnfix

NETWORKS = ("ResNet50", "MobileNetV2", "EfficientNetB0")
#: Calls that are not timed: tracing, and the first run of each kernel.
WARM_UP = 3


def main() -> None:
    options = options_for(__doc__)
    K = importlib.import_module(options.keras)
    print(
        f"{'network':<16}{'batch':>6}{'before':>12}{'after':>12}{'ratio':>8}{'folded':>10}  differ"
    )
    for network in options.networks:
        K.utils.set_random_seed(0)
        model = getattr(K.applications, network)(
            weights=None, input_shape=(options.size, options.size, 3)
        )
        randomise_statistics(model)
        folded, report = bnfix.fold(model, return_report=True)
        calls = [compiled(model), compiled(folded)]
        count = f"{len(report.changed)}/{len(report.outcomes)}"
        for batch in options.batches:
            x = np.random.default_rng(0).random((batch, options.size, options.size, 3), np.float32)
            before, after = interleaved(
                [partial(once, call, x) for call in calls], options.repeats, warm_up=WARM_UP
            )
            apart = difference(calls, x)
            print(
                f"{network:<16}{batch:>6}{1e3 * before:>9.1f} ms{1e3 * after:>9.1f} ms"
                f"{before / after:>8.2f}{count:>10}  {apart:.1e}",
                flush=True,
            )


def randomise_statistics(model: Any) -> None:
    """Statistics as training leaves them; as initialised, a wrong fold would not show."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if "BatchNormalization" in type(layer).__name__:
            layer.moving_mean.assign(rng.normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, layer.moving_variance.shape))


def compiled(model: Any) -> Callable[[Any], Any]:
    """`model` in inference mode, as serving code runs it."""
    import tensorflow as tf

    return tf.function(lambda x: model(x, training=False))


def once(call: Callable[[Any], Any], x: Any) -> None:
    np.asarray(call(x))


def difference(calls: list[Callable[[Any], Any]], x: Any) -> float:
    """Largest difference of the two outputs, in units of the largest output."""
    ours, theirs = (np.asarray(call(x), np.float64) for call in calls)
    return float(np.max(np.abs(ours - theirs)) / np.max(np.abs(ours)))


def options_for(about: str | None) -> argparse.Namespace:
    """What the command line says; `about` begins with what the script answers."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], metavar="ROWS")
    parser.add_argument(
        "--size", type=int, default=224, help="of the images (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=15, help="default: %(default)s")
    parser.add_argument("--keras", choices=("keras", "tf_keras"), default="keras")
    return parser.parse_args()


if __name__ == "__main__":
    main()
