"""What does it cost to recalibrate by several workers on one machine, and how far off is it?

    python -m benchmarks.workers_cost --workers 1 2

Every worker holds an equal part of the same images; all share the processor, so that no time can be
won here. The time is that of the slowest worker, against one process with all the data. How far
off: the largest difference of a mean from that of one process, in standard deviations, beside what
one process finds for the same rows in reverse, which is rounding alone; whether all workers have
the same bits; meetings, and what a worker says at one at most.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from .benchmark import Benchmark, Measured, Row, once
from .networks import TITLES, keras
from .processes import started, told
from .running import alone

IMAGES = {"digits": 1797, "ResNet50": 1024}
REVERSED = ", rows reversed"


@dataclass(frozen=True)
class Options:
    kerases: tuple[str, ...] = ("keras", "tf_keras")
    networks: tuple[str, ...] = tuple(IMAGES)
    workers: tuple[int, ...] = (1, 2, 4)
    repeats: int = 3


def measure(options: Options) -> Iterator[Row]:
    for name in options.networks:
        for dialect in options.kerases:
            one: list[Any] = []
            for kind, size in [*((name, size) for size in options.workers), (name + REVERSED, 1)]:
                runs = [together(kind, dialect, size) for _ in range(options.repeats)]
                one = one or runs
                labels = {"network": kind, "Keras": TITLES[dialect], "workers": str(size)}
                yield Row(labels, dict(_numbers(runs, one)), {"equal bits": _equal(runs[0])})


def _numbers(runs: list[Any], one: list[Any]) -> Iterator[tuple[str, Measured]]:
    times, alone_times = slowest(runs), slowest(one)
    yield "time", times
    yield "to one", times / alone_times
    off = max(
        float(np.max(np.abs(np.subtract(mean, wanted)) / np.sqrt(variance)))
        for (mean, _), (wanted, variance) in zip(
            runs[0][0]["found"], one[0][0]["found"], strict=True
        )
    )
    yield "off", once("sigma", off)
    sent = runs[0][0]["sent"]
    yield "meetings", once("count", len(sent))
    yield "said at one", once("KiB", max(sent, default=0) / 1024)


def _equal(workers: list[Any]) -> str:
    return "yes" if all(each["found"] == workers[0]["found"] for each in workers) else "NO"


def slowest(runs: list[Any]) -> Measured:
    """Seconds of the slowest worker in each run."""
    return Measured("s", tuple(max(each["seconds"] for each in workers) for workers in runs))


def together(name: str, dialect: str, size: int) -> list[dict[str, Any]]:
    """What each of `size` workers tells that recalibrate the network `name` together."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(size)]
        for one in sockets:
            one.bind(("localhost", 0))
        addresses = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    clusters = [
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        for rank in range(size)
    ]
    jobs = [
        started(worker, name, dialect, rank, size, environment={"TF_CONFIG": json.dumps(cluster)})
        for rank, cluster in enumerate(clusters)
    ]
    try:
        return [told(job) for job in jobs]
    finally:
        for job in jobs:
            job.kill()  # where one ended with an error, the others would wait for it


def worker(name: str, dialect: str, rank: int, size: int) -> dict[str, Any]:
    """One of them: seconds, bytes said at each meeting, and the statistics."""
    import tensorflow as tf

    import bnfix
    from bnfix.adapters import weights
    from bnfix.adapters.backends.tensorflow_workers import StrategyWorkers

    strategy = (
        tf.distribute.MultiWorkerMirroredStrategy() if size > 1 else tf.distribute.get_strategy()
    )
    K = keras(dialect)
    K.utils.set_random_seed(0)
    x = _data(name)
    part = x[rank * len(x) // size : (rank + 1) * len(x) // size]
    with strategy.scope():
        model = _network(K, name)
    sent: list[int] = []
    reduce = StrategyWorkers.all_reduce

    def counted(self: StrategyWorkers, values: Any) -> Any:
        sent.append(values[self.rank].nbytes)
        return reduce(self, values)

    StrategyWorkers.all_reduce = counted
    begin = time.perf_counter()
    bnfix.recalibrate(model, part, guard=False, verbose=0)
    seconds = time.perf_counter() - begin
    norms = [layer for layer in model.layers if "BatchNorm" in type(layer).__name__]
    found = [list(map(list, weights.read_statistics(layer))) for layer in norms]
    return {"seconds": seconds, "sent": sent, "found": found}


def _data(name: str) -> Any:
    """The images; in another order, what rounding alone makes of the same statistics."""
    if name.endswith(REVERSED):
        return _data(name.removesuffix(REVERSED))[::-1]
    if name == "ResNet50":
        return np.random.default_rng(0).uniform(0, 255, (IMAGES[name], 64, 64, 3)).astype("f4")
    from sklearn.datasets import load_digits

    return load_digits().images[..., None].astype("float32")


def _network(K: Any, name: str) -> Any:
    if name.startswith("ResNet50"):
        return K.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=10)
    L = K.layers
    inputs = x = K.Input((8, 8, 1))
    for filters in (16, 32, 32):
        x = L.ReLU()(L.BatchNormalization()(L.Conv2D(filters, 3, padding="same")(x)))
    return K.Model(inputs, L.Dense(10)(L.GlobalAveragePooling2D()(x)))


BENCHMARK = Benchmark(
    "workers_cost",
    __doc__,
    measure,
    full=Options(),
    quick=Options(kerases=("keras",), networks=("digits",), workers=(2,), repeats=1),
    requires=("sklearn",),
)

if __name__ == "__main__":
    alone(BENCHMARK)
