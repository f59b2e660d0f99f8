"""What does folding cost, and what its proof?

    python benchmarks/fold_cost.py --keras tf_keras

Folding without the proof against Keras's own `clone_model` and `set_weights`, which fold nothing;
the proof, which runs `predict`, `call` and compiled code of the new model and the old model
uncompiled, against the first `predict` of the old model, tracing included. Statistics are random:
as initialised, MobileNetV2 answers the same to every input, on which a proof tries more of them.
"""

from __future__ import annotations

import argparse
import importlib
import os
from functools import partial
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from fold_speed import randomise_statistics
from timing import interleaved

import bnfix
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.reading import read
from bnfix.adapters.rebuilding import rebuild
from bnfix.operations.samples import samples
from bnfix.passes import fold as fold_pass

NETWORKS = ("ResNet50", "MobileNetV2", "EfficientNetB0")


def main() -> None:
    options = _options()
    K = importlib.import_module(options.keras)
    print(
        f"{'network':<16}{'clone':>8}{'fold':>8}{'ratio':>7}{'predict':>10}{'proof':>8}{'ratio':>7}"
    )
    for network in options.networks:
        model = getattr(K.applications, network)(weights=None)
        randomise_statistics(model)
        calls = [
            partial(cloned, K, model),
            partial(unproven, model),
            partial(first_prediction, model),
            partial(bnfix.fold, model),
        ]
        clone, bare, predict, fold = interleaved(calls, options.repeats, warm_up=1)
        proof = fold - bare
        print(
            f"{network:<16}{clone:>6.2f} s{bare:>6.2f} s{bare / clone:>7.2f}"
            f"{predict:>8.2f} s{proof:>6.2f} s{proof / predict:>7.2f}",
            flush=True,
        )


def cloned(K: Any, model: Any) -> Any:
    copy = K.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def unproven(model: Any) -> Any:
    """What `fold` does, but for its proof."""
    reading = read(adapter_of(model), model, "fold")
    edit, _ = fold_pass.plan(reading)
    return rebuild(reading, edit).model


def first_prediction(model: Any) -> Any:
    adapter = adapter_of(model)
    (x,) = next(samples([adapter.tensor_spec(tensor) for tensor in model.inputs], rows=2))
    with adapter.functions_kept(model):
        adapter.forget_functions(model)
        return model.predict(x, verbose=0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--keras", choices=("keras", "tf_keras"), default="keras")
    return parser.parse_args()


if __name__ == "__main__":
    main()
