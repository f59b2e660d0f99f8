"""What does fitting GroupNormalizations to data cost, in inference passes over the same data?

    python benchmarks/group_norm_cost.py --networks MobileNetV2 --images 256

All numbers of groups are compared for each layer. Rebuilding the model is not the fit, so what
`to_group_norm` takes without data is shown apart and subtracted.
"""

from __future__ import annotations

import argparse
import importlib
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import warnings

import numpy as np
from fold_speed import randomise_statistics
from recalibrate_cost import one_pass
from timing import interleaved

import bnfix


def main() -> None:
    options = _options()
    K = importlib.import_module(options.keras)
    warnings.simplefilter("ignore", bnfix.BnfixWarning)  # random weights are fitted poorly
    print(
        f"{'network':<16}{'inference':>12}{'rebuilding':>12}{'with fit':>11}{'fit/inference':>15}"
    )
    shape = (options.size, options.size, 3)
    x = np.random.default_rng(0).random((options.images, *shape), np.float32)
    for network in options.networks:
        K.utils.set_random_seed(0)
        model = getattr(K.applications, network)(weights=None, input_shape=shape)
        randomise_statistics(model)
        passes = [
            one_pass(model, x, options.batch, training=False),
            lambda model=model: bnfix.to_group_norm(model),
            lambda model=model: bnfix.to_group_norm(model, x, batch_size=options.batch, verbose=0),
        ]
        inference, rebuilding, fitting = interleaved(passes, options.repeats)
        print(
            f"{network:<16}{inference:>10.2f} s{rebuilding:>10.2f} s{fitting:>9.2f} s"
            f"{(fitting - rebuilding) / inference:>15.2f}",
            flush=True,
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="+", default=("ResNet50", "MobileNetV2"))
    parser.add_argument("--images", type=int, default=256, help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=32, help="rows (default: %(default)s)")
    parser.add_argument(
        "--size", type=int, default=224, help="of the images (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--keras", choices=("keras", "tf_keras"), default="keras")
    return parser.parse_args()


if __name__ == "__main__":
    main()
