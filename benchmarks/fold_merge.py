"""What does it bring to merge the branches of a network such as RepVGG-A0?

    python benchmarks/fold_merge.py --batches 1 8

The network as it is trained, with its BatchNormalizations folded, and with its branches merged, all
under `tf.function`, as in serving, and in turns (Ding et al. 2021, arXiv:2101.03697).
"""

from __future__ import annotations

import argparse
import importlib
import os
from functools import partial
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from fold_speed import WARM_UP, compiled, difference, once, randomise_statistics
from timing import interleaved

import bnfix

#: Blocks and channels of each stage of RepVGG-A0; the first block of each halves the image.
STAGES = ((1, 48), (2, 48), (4, 96), (14, 192), (1, 1280))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keras", default="keras", choices=("keras", "tf_keras"))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    K = importlib.import_module(options.keras)
    K.utils.set_random_seed(0)
    model = repvgg(K, options.size)
    randomise_statistics(model)
    folded, report = bnfix.fold(model, return_report=True)
    merged = bnfix.fold(model, merge=True)
    calls = [compiled(each) for each in (model, folded, merged)]
    layers = ", ".join(str(len(each.layers)) for each in (model, folded, merged))
    print(f"{report.operation}: {len(report.changed)} of {len(report.outcomes)}; layers {layers}")
    print(f"{'batch':>5}{'trained':>12}{'folded':>12}{'merged':>12}{'ratios':>14}  differ")
    for batch in options.batches:
        x = np.random.default_rng(0).random((batch, options.size, options.size, 3), np.float32)
        times = interleaved(
            [partial(once, call, x) for call in calls], options.repeats, warm_up=WARM_UP
        )
        shown = "".join(f"{1e3 * each:>9.1f} ms" for each in times)
        ratios = " ".join(f"{times[0] / each:.2f}" for each in times[1:])
        apart = max(difference([calls[0], call], x) for call in calls[1:])
        print(f"{batch:>5}{shown}{ratios:>14}  {apart:.1e}", flush=True)


def repvgg(K: Any, size: int) -> Any:
    """RepVGG-A0 as it is trained: 22 blocks of two or three branches."""
    x = inputs = K.Input((size, size, 3))
    for number, channels in STAGES:
        for place in range(number):
            x = block(K, x, channels, strides=1 if place else 2)
    x = K.layers.GlobalAveragePooling2D()(x)
    return K.Model(inputs, K.layers.Dense(1000)(x))


def block(K: Any, x: Any, channels: int, strides: int) -> Any:
    L = K.layers
    options = {"strides": strides, "padding": "same", "use_bias": False}
    branches = [L.BatchNormalization()(L.Conv2D(channels, k, **options)(x)) for k in (3, 1)]
    if strides == 1 and x.shape[-1] == channels:
        branches.append(L.BatchNormalization()(x))
    return L.ReLU()(L.Add()(branches))


if __name__ == "__main__":
    main()
