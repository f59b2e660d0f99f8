"""How fast is what `fold` returns, against what users would take instead?

    python -m benchmarks.inference --networks ResNet50 --batches 1

The network as it is, folded, and folded with its branches merged where there are some; under
`tf.function` as in serving, with `jit_compile=True`, and converted to LiteRT, ONNX Runtime and
OpenVINO in float32, each of the network as it is and of the folded one. All take turns within one
run. Differences of outputs are from those of the network as it is under `tf.function`, in units of
its largest output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import bnfix

from .benchmark import Benchmark, Measured, Row, Skipped, once
from .calling import WARM_UP, difference, on
from .networks import images, keras, network
from .running import alone
from .runtimes import RUNTIMES, Call
from .timing import interleaved, milliseconds

PLAIN = "unfolded"


@dataclass(frozen=True)
class Options:
    networks: tuple[str, ...] = (
        "ResNet50",
        "MobileNetV2",
        "EfficientNetB0",
        "RepVGG-A0",
        "YOLO-like",
    )
    batches: tuple[int, ...] = (1, 8)
    size: int = 224
    runtimes: tuple[str, ...] = tuple(runtime.name for runtime in RUNTIMES)
    repeats: int = 15


def measure(options: Options) -> Iterator[Row | Skipped]:
    K = keras("keras")
    chosen = [runtime for runtime in RUNTIMES if runtime.name in options.runtimes]
    here = [each for each in chosen if all(find_spec(name) for name in each.requires)]
    for runtime in chosen:
        if runtime not in here:
            yield Skipped(runtime.name, f"it needs {', '.join(runtime.requires)}: not installed")
    for name in options.networks:
        calls: dict[str, Call] = {}
        one = images(1, options.size)
        for how, load in _ways(network(K, name, options.size), here).items():
            try:
                call = load()
                call(one)
            except Exception as error:  # of the runtime: what it cannot run is a result
                yield Skipped(f"{name}, {how}", f"{type(error).__name__}: {error}"[:200])
            else:
                calls[how] = call
        for batch in options.batches:
            yield from _rows({"network": name, "batch": str(batch)}, calls, batch, options)


def _ways(model: Any, runtimes: Any) -> dict[str, Callable[[], Call]]:
    """What is done to the model, and in which runtime."""
    folded, merged = bnfix.fold(model), bnfix.fold(model, merge=True)
    models = {PLAIN: model, "folded": folded}
    if len(merged.layers) < len(folded.layers):
        models["merged"] = merged
    return {
        (what if runtime.name == "tf.function" else f"{runtime.name}, {what}"): (
            lambda runtime=runtime, each=each: runtime.load(each)
        )
        for runtime in runtimes
        for what, each in models.items()
    }


def _rows(
    labels: dict[str, str], calls: dict[str, Call], batch: int, options: Options
) -> Iterator[Row]:
    x = images(batch, options.size)
    wanted = calls[PLAIN](x)
    apart = {
        how: once("of the largest", difference(call(x), wanted))
        for how, call in calls.items()
        if how != PLAIN
    }
    times = interleaved(on(x, calls), options.repeats, warm_up=WARM_UP)
    shown: dict[str, Measured] = {how: milliseconds(each) for how, each in times.items()}
    yield Row(labels, shown, table="Milliseconds of a call")
    faster = {how: times[PLAIN] / each for how, each in times.items() if how != PLAIN}
    yield Row(labels, faster, table="Times as fast as the network under tf.function as it is")
    yield Row(labels, apart, table="Outputs differ")


BENCHMARK = Benchmark(
    "inference",
    __doc__,
    measure,
    full=Options(),
    quick=Options(networks=("small",), batches=(1,), size=32, repeats=3),
)

if __name__ == "__main__":
    alone(BENCHMARK)
