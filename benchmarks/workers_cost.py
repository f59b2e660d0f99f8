"""What does it cost to recalibrate by several workers on one machine, and how far off is it?

    .venv/bin/python benchmarks/workers_cost.py [WORKERS ...]

Every worker holds an equal part of the same images; all share the processor, so that no time can be
won here. The time is that of the slowest worker.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

IMAGES = {"digits": 1797, "ResNet50": 1024}


_REVERSED = ", rows reversed"


def worker(name: str, dialect: str, rank: int, ports: list[str]) -> None:
    task = {"type": "worker", "index": rank}
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
    import importlib

    import numpy as np
    import tensorflow as tf

    import bnfix
    from bnfix.adapters.backends.tensorflow_workers import StrategyWorkers

    size = len(ports)
    strategy = (
        tf.distribute.MultiWorkerMirroredStrategy() if size > 1 else tf.distribute.get_strategy()
    )
    keras = importlib.import_module(dialect)
    keras.utils.set_random_seed(0)
    x = data(name)
    part = x[rank * len(x) // size : (rank + 1) * len(x) // size]
    with strategy.scope():
        model = network(keras, name)
    sent, reduce = [], StrategyWorkers.all_reduce

    def counted(self: StrategyWorkers, values: np.ndarray) -> np.ndarray:
        sent.append(values[self.rank].nbytes)
        return reduce(self, values)

    StrategyWorkers.all_reduce = counted
    started = time.perf_counter()
    bnfix.recalibrate(model, part, guard=False, verbose=0)
    seconds = time.perf_counter() - started
    norms = [layer for layer in model.layers if "BatchNorm" in type(layer).__name__]
    from bnfix.adapters import weights

    found = [list(map(list, weights.read_statistics(layer))) for layer in norms]
    print(json.dumps({"seconds": seconds, "sent": sent, "found": found}), flush=True)
    os._exit(0)


def data(name: str):
    """The images; in another order, what rounding alone makes of the same statistics."""
    import numpy as np

    if name.endswith(_REVERSED):
        return data(name.removesuffix(_REVERSED))[::-1]
    if name == "ResNet50":
        return np.random.default_rng(0).uniform(0, 255, (IMAGES[name], 64, 64, 3)).astype("float32")
    from sklearn.datasets import load_digits

    return load_digits().images[..., None].astype("float32")


def network(keras, name: str):
    if name.startswith("ResNet50"):
        return keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=10)
    layers = keras.layers
    inputs = x = keras.Input((8, 8, 1))
    for filters in (16, 32, 32):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(x)))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def run(name: str, dialect: str, size: int) -> list[dict]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(size)]
        for one in sockets:
            one.bind(("localhost", 0))
        ports = ",".join(str(one.getsockname()[1]) for one in sockets)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    jobs = [
        subprocess.Popen(
            [sys.executable, __file__, "--worker", name, dialect, str(rank), ports],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        for rank in range(size)
    ]
    return [json.loads(job.communicate()[0].splitlines()[-1]) for job in jobs]


def main() -> None:
    import numpy as np

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workers", nargs="*", type=int, default=[1, 2, 4])
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        name, dialect, rank, ports = given.worker
        worker(name, dialect, int(rank), ports.split(","))
    print("| network | Keras | workers | seconds | to one | off, sigma | equal | meetings | each |")
    print("|---|---|--:|--:|--:|--:|---|--:|--:|")
    for name in IMAGES:
        for dialect in ("keras", "tf_keras"):
            one = None
            for kind, size in [*((name, size) for size in given.workers), (name + _REVERSED, 1)]:
                told = run(kind, dialect, size)
                seconds = max(each["seconds"] for each in told)
                one = one or (seconds, told[0]["found"])
                off = max(
                    float(np.max(np.abs(np.subtract(m, n)) / np.sqrt(w)))
                    for (m, _), (n, w) in zip(told[0]["found"], one[1], strict=True)
                )
                same = all(each["found"] == told[0]["found"] for each in told)
                sent = told[0]["sent"]
                each = f"{max(sent) >> 10} KiB" if sent else "-"
                print(
                    f"| {kind} | {dialect} | {size} | {seconds:.1f} | {seconds / one[0]:.2f} | "
                    f"{off:.1e} | {'yes' if same else 'NO'} | {len(sent)} | {each} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
