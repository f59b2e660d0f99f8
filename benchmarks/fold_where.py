"""Where does the time go, by kinds of operations, before and after folding?

    python -m benchmarks.fold_where --networks ResNet50 --batches 1

Folding can save no more than what the unfolded network spends outside of its convolutions and
matrix products: the ceiling is all of its time over that in these. TensorFlow's own profiler tells;
calls are under `tf.function`.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bnfix

from .benchmark import Benchmark, Measured, Row, once
from .calling import WARM_UP, compiled
from .networks import TITLES, images, keras, network
from .running import alone

#: Kinds of operations that stay, and may come with a bias and an activation of their own.
_PRODUCTS = ("Conv2D", "MatMul", "DepthwiseConv2dNative")
_LISTED = 6


@dataclass(frozen=True)
class Options:
    kerases: tuple[str, ...] = ("keras",)
    networks: tuple[str, ...] = ("ResNet50", "MobileNetV2", "EfficientNetB0")
    batches: tuple[int, ...] = (1, 8)
    size: int = 224
    repeats: int = 15


def measure(options: Options) -> Iterator[Row]:
    for dialect in options.kerases:
        for name in options.networks:
            model = network(keras(dialect), name, options.size)
            folded = bnfix.fold(model)
            for batch in options.batches:
                x = images(batch, options.size)
                before, after = (
                    by_kind(compiled(each), x, options.repeats) for each in (model, folded)
                )
                labels = {"Keras": TITLES[dialect], "network": name, "batch": str(batch)}
                yield Row(labels, _numbers(before, after), {"left": _listed(after)})


def _numbers(before: Counter[str], after: Counter[str]) -> dict[str, Measured]:
    all_of, left = sum(before.values()), sum(after.values())
    products = sum(ms for kind, ms in before.items() if kind.endswith(_PRODUCTS))
    return {
        "before": once("ms", all_of),
        "outside of products": once("ms", all_of - products),
        "after": once("ms", left),
        "before / after": once("x", all_of / left),
        "ceiling": once("x", all_of / products),
    }


def _listed(found: Counter[str]) -> str:
    return ", ".join(f"{kind} {ms:.1f}" for kind, ms in found.most_common(_LISTED))


def by_kind(call: Callable[[Any], Any], x: Any, repeats: int) -> Counter[str]:
    """Milliseconds of one call, by kinds of operations."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    for _ in range(WARM_UP):
        call(x)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for _ in range(repeats):
            call(x)
        tf.profiler.experimental.stop()
        space = xplane_pb2.XSpace()
        space.ParseFromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                node, colon, kind = name.partition(":")  # "model/conv1/Conv2D:Conv2D"
                if colon and node and kind.isidentifier():
                    found[kind] += event.duration_ps / 1e9 / repeats
    return found


BENCHMARK = Benchmark(
    "fold_where",
    __doc__,
    measure,
    full=Options(),
    quick=Options(networks=("small",), batches=(1,), size=64, repeats=3),
)

if __name__ == "__main__":
    alone(BENCHMARK)
