"""What does `fold` do to every family of `keras.applications`?

    python benchmarks/fold_families.py --keras tf_keras --only ResNet50 VGG16

One network a family, with random weights and statistics. Why BatchNormalizations stay is told by
kinds of layers, with the number of those it holds for.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
from collections import Counter
from functools import partial
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from fold_speed import WARM_UP, compiled, difference, once, randomise_statistics
from timing import interleaved

import bnfix

NETWORKS = (
    *("ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionResNetV2"),
    *("InceptionV3", "MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large"),
    *("NASNetMobile", "RegNetX002", "RegNetY002", "ResNet50", "ResNet101V2", "ResNetRS50"),
    *("VGG16", "VGG19", "Xception"),
)
#: A reason that names layers without their kinds.
_ELSEWHERE = re.compile(r"\S+ also feeds [^;]+")


def main() -> None:
    options = _options()
    K = importlib.import_module(options.keras)
    print(
        "| network | BN | folded | left | largest difference | fold / clone "
        "| batch 1 | batch 8 | why the rest stays |\n|---|---|---|---|---|---|---|---|---|"
    )
    for network in options.only:
        if hasattr(K.applications, network):
            print(_row(K, network, options), flush=True)
        K.backend.clear_session()


def _row(K: Any, network: str, options: argparse.Namespace) -> str:
    K.utils.set_random_seed(0)
    model = getattr(K.applications, network)(weights=None, input_shape=(options.size,) * 2 + (3,))
    randomise_statistics(model)
    cloning, folding = interleaved(
        [partial(cloned, K, model), partial(bnfix.fold, model)], options.repeats
    )
    folded, report = bnfix.fold(model, return_report=True)
    calls = [compiled(model), compiled(folded)]
    gains: list[str] = []
    apart = 0.0
    for rows in (1, 8):
        x = np.random.default_rng(0).random((rows, options.size, options.size, 3), np.float32)
        before, after = interleaved(
            [partial(once, call, x) for call in calls], options.runs, warm_up=WARM_UP
        )
        gains.append(f"{before / after:.2f} x")
        apart = max(apart, difference(calls, x))
    why = Counter(_kinds(outcome.detail) for outcome in report.declined)
    cells = (
        network,
        len(report.outcomes),
        len(report.changed),
        len(report.declined),
        f"{apart:.0e}",
        f"{folding / cloning:.2f}",
        *gains,
        "; ".join(f"{count}: {kinds}" for kinds, count in why.most_common()),
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def cloned(K: Any, model: Any) -> Any:
    copy = K.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _kinds(detail: str) -> str:
    """The reasons with names left out where the kind of layer is told."""
    detail = _ELSEWHERE.sub("others read the same", detail)
    detail = re.sub(r"\S+ \((\w+)\)", r"\1", detail)
    detail = re.sub(r"\S+ (applies|is an output)", r"a layer \1", detail)
    return re.sub(r", which is not a linear layer", "", detail)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=NETWORKS, metavar="NAME")
    parser.add_argument(
        "--size", type=int, default=224, help="of the images (default: %(default)s)"
    )
    parser.add_argument("--runs", type=int, default=11, help="of each call (default: %(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="of folding and cloning (default: %(default)s)"
    )
    parser.add_argument("--keras", choices=("keras", "tf_keras"), default="keras")
    return parser.parse_args()


if __name__ == "__main__":
    main()
