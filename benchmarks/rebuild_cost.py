"""What does it cost to rebuild a model, and how does that grow with its depth?

    python benchmarks/rebuild_cost.py --keras tf_keras

Against Keras's own `clone_model` and `set_weights`, which copy no flags, states or compilation; and
a chain of conv-BN pairs against one ten times as long.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from functools import partial
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from timing import interleaved

from bnfix.adapters.choose import adapter_of
from bnfix.adapters.reading import Reading
from bnfix.adapters.rebuilding import rebuild
from bnfix.graph.edit import Edit

NETWORKS = ("ResNet50", "EfficientNetB0")


def main() -> None:
    options = _options()
    K = importlib.import_module(options.keras)
    print(f"{'network':<20}{'clone_model':>14}{'rebuild':>12}{'ratio':>8}")
    for network in options.networks:
        model = getattr(K.applications, network)(weights=None, input_shape=(64, 64, 3))
        contenders = [partial(cloned, K, model), partial(rebuilt, model)]
        theirs, ours = interleaved(contenders, options.repeats, warm_up=1)
        print(f"{network:<20}{theirs:>12.2f} s{ours:>10.2f} s{ours / theirs:>8.2f}", flush=True)
    short, long = (chain(K, pairs) for pairs in (options.pairs, 10 * options.pairs))
    few, many = interleaved([partial(rebuilt, short), partial(rebuilt, long)], options.repeats)
    print(f"{'chain':<20}{'conv-BN pairs':>14}{'rebuild':>12}{'ratio':>8}")
    print(f"{'':<20}{options.pairs:>14}{few:>10.2f} s{1:>8.2f}")
    print(f"{'':<20}{10 * options.pairs:>14}{many:>10.2f} s{many / few:>8.2f}")


def rebuilt(model: Any) -> Any:
    return rebuild(Reading(adapter_of(model), model), Edit()).model


def cloned(K: Any, model: Any) -> Any:
    copy = K.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def chain(K: Any, pairs: int) -> Any:
    """A model of `pairs` 1x1 convolutions with a BatchNormalization each, one after the other."""
    inputs = K.Input((8, 8, 4))
    x = inputs
    for _ in range(pairs):
        x = K.layers.BatchNormalization()(K.layers.Conv2D(4, 1)(x))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + 10 * pairs)  # Keras walks the graph of a new model by recursion
    model = K.Model(inputs, x)
    sys.setrecursionlimit(limit)
    return model


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME")
    parser.add_argument("--pairs", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--keras", choices=("keras", "tf_keras"), default="keras")
    return parser.parse_args()


if __name__ == "__main__":
    main()
