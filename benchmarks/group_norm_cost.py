"""What does fitting GroupNormalizations to data cost, in inference passes over the same data?

    python -m benchmarks.group_norm_cost --networks MobileNetV2 --images 256

All numbers of groups are compared for each layer. Rebuilding the model is not the fit, so what
`to_group_norm` takes without data is shown apart and subtracted. Both networks run, the old one and
the new: what one inference pass of the new one takes, too, is shown as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import bnfix

from .benchmark import Benchmark, Row, Target
from .calling import one_pass
from .networks import TITLES, images, keras, network
from .running import alone
from .timing import interleaved


@dataclass(frozen=True)
class Options:
    kerases: tuple[str, ...] = ("keras",)
    networks: tuple[str, ...] = ("ResNet50", "MobileNetV2")
    size: int = 224
    images: int = 256
    batch: int = 32
    repeats: int = 5


def measure(options: Options) -> Iterator[Row]:
    warnings.simplefilter("ignore", bnfix.BnfixWarning)  # random weights are fitted poorly
    x = images(options.images, options.size)
    for dialect in options.kerases:
        for name in options.networks:
            model = network(keras(dialect), name, options.size)
            calls = {
                "inference": one_pass(model, x, options.batch),
                "rebuilding": partial(bnfix.to_group_norm, model),
                "with fit": partial(
                    bnfix.to_group_norm, model, x, batch_size=options.batch, verbose=0
                ),
            }
            calls["new network"] = one_pass(bnfix.to_group_norm(model), x, options.batch)
            times = interleaved(calls, options.repeats)
            fit = times["with fit"] - times["rebuilding"]
            yield Row(
                {"Keras": TITLES[dialect], "network": name},
                {
                    **times,
                    "fit / inference": fit / times["inference"],
                    "both networks / inference": (times["inference"] + times["new network"])
                    / times["inference"],
                },
            )


BENCHMARK = Benchmark(
    "group_norm_cost",
    __doc__,
    measure,
    full=Options(),
    quick=Options(networks=("small",), size=32, images=32, repeats=1),
    targets=tuple(
        Target(
            f"GroupNormalization fit / inference, {name}",
            "fit / inference",
            most,
            {"network": name},
            ("both networks / inference",),
        )
        for name, most in (("ResNet50", 2.2), ("MobileNetV2", 3.0))
    ),
)

if __name__ == "__main__":
    alone(BENCHMARK)
