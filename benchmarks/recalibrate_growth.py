"""How does the time of `recalibrate` grow, and what does it cost where the graph hides its BNs?

    python benchmarks/recalibrate_growth.py --keras tf_keras

A plain network of 3x3 convolutions with a BatchNormalization each, on images of 32x32: more and
more images, more and more layers, and the same layers in a subclassed model.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from timing import interleaved

import bnfix

IMAGES, DEPTHS = (64, 128, 256, 512, 1024), (20, 40, 80, 160, 320)
SHAPE = (32, 32, 3)


def main() -> None:
    options = _options()
    K = importlib.import_module(options.keras)
    x = np.random.default_rng(0).random((max(IMAGES), *SHAPE), np.float32)
    plain = chain(K, 20)
    jobs: list[Callable[[], Any]] = [
        partial(recalibrated, chain(K, 20, subclassed=hidden), x[:images])
        for images in (64, 512)
        for hidden in (False, True)
    ]
    small, small_hidden, large, large_hidden = interleaved(jobs, options.repeats)
    print(f"20 BNs, 64 images: {small:.2f} s; subclassed {small_hidden:.2f} s", end="")
    print(f" ({small_hidden / small:.2f} x)")
    print(f"20 BNs, 512 images: {large:.2f} s; subclassed {large_hidden:.2f} s", end="")
    print(f" ({large_hidden / large:.2f} x)", flush=True)
    told(
        "images",
        IMAGES,
        interleaved(
            [partial(recalibrated, plain, x[:n]) for n in IMAGES], options.repeats, warm_up=1
        ),
    )
    told(
        "BN layers",
        DEPTHS,
        interleaved(
            [partial(recalibrated, chain(K, depth), x[:64]) for depth in DEPTHS],
            options.repeats,
            warm_up=1,
        ),
    )


def recalibrated(model: Any, x: Any) -> None:
    bnfix.recalibrate(model, x, verbose=0)


def chain(K: Any, depth: int, *, subclassed: bool = False) -> Any:
    """`depth` convolutions of 16 channels, each with a BN and a ReLU."""
    layers = [
        layer
        for _ in range(depth)
        for layer in (
            K.layers.Conv2D(16, 3, padding="same", use_bias=False),
            K.layers.BatchNormalization(),
            K.layers.ReLU(),
        )
    ]
    if not subclassed:
        return K.Sequential([K.Input(SHAPE), *layers])

    class Chain(K.Model):
        def __init__(self) -> None:
            super().__init__()
            self.steps = layers

        def call(self, inputs: Any) -> Any:
            for layer in self.steps:
                inputs = layer(inputs)
            return inputs

    model = Chain()
    model(np.zeros((1, *SHAPE), np.float32))
    return model


def told(of: str, numbers: Sequence[int], seconds: Sequence[float]) -> None:
    """Print the times beside the line through them, and how far they are off it at most."""
    # Each point counts by its own time, for the short times are to be as near to it as the long.
    slope, start = np.polyfit(numbers, seconds, 1, w=1 / np.asarray(seconds))
    line = start + slope * np.asarray(numbers)
    print(f"{of:<12}" + "".join(f"{number:>9}" for number in numbers))
    print(f"{'seconds':<12}" + "".join(f"{taken:>9.2f}" for taken in seconds))
    print(f"{'line':<12}" + "".join(f"{taken:>9.2f}" for taken in line), end="")
    print(f"   off by at most {max(abs(line / np.asarray(seconds) - 1)):.0%}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--keras", choices=("keras", "tf_keras"), default="keras")
    return parser.parse_args()


if __name__ == "__main__":
    main()
