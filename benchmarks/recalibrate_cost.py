"""What does `recalibrate` cost, in passes over the same data?

    python benchmarks/recalibrate_cost.py --networks MobileNetV2 --images 512

Against one compiled inference pass, which nothing can undercut, and against one compiled
training-mode pass, which is how statistics are usually re-estimated and which is not exact.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from timing import interleaved

import bnfix

NETWORKS = ("ResNet50", "MobileNetV2", "EfficientNetB0")


def main() -> None:
    options = _options()
    K = importlib.import_module(options.keras)
    head = f"{'network':<16}{'inference':>12}{'training':>12}{'recalibrate':>13}"
    print(f"{head}{'/ inference':>13}{'/ training':>12}")
    shape = (options.size, options.size, 3)
    x = np.random.default_rng(0).random((options.images, *shape), np.float32)
    for network in options.networks:
        K.utils.set_random_seed(0)
        model = getattr(K.applications, network)(weights=None, input_shape=shape)
        passes = [
            one_pass(model, x, options.batch, training=False),
            one_pass(model, x, options.batch, training=True),
            lambda model=model: bnfix.recalibrate(model, x, batch_size=options.batch, verbose=0),
        ]
        inference, training, exact = interleaved(passes, options.repeats)
        print(
            f"{network:<16}{inference:>10.2f} s{training:>10.2f} s{exact:>11.2f} s"
            f"{exact / inference:>13.2f}{exact / training:>12.2f}",
            flush=True,
        )


def one_pass(model: Any, x: Any, batch: int, *, training: bool) -> Callable[[], None]:
    """All of `x` through the compiled model once; traced already."""
    import tensorflow as tf

    call = tf.function(lambda rows: model(rows, training=training))
    call(x[:batch])

    def run() -> None:
        for start in range(0, len(x), batch):
            np.asarray(call(x[start : start + batch]))

    return run


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME")
    parser.add_argument("--images", type=int, default=512, help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=32, help="rows (default: %(default)s)")
    parser.add_argument(
        "--size", type=int, default=224, help="of the images (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--keras", choices=("keras", "tf_keras"), default="keras")
    return parser.parse_args()


if __name__ == "__main__":
    main()
