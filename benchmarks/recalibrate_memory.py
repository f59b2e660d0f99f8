"""What does `recalibrate` take in memory, with `memory_limit` and without?

    python benchmarks/recalibrate_memory.py

Each run has a process of its own, whose largest size is compared with its size just before.
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

SHAPE, CHANNELS, LAYERS, BATCH = (64, 64, 3), 32, 8, 32
GIB = 1 << 30


def main() -> None:
    options = _options()
    if options.alone:
        alone(options)
        return
    found = []
    for limit in (None, options.limit):
        command = [sys.executable, __file__, "--alone", "--images", str(options.images)]
        command += ["--keras", options.keras, *(["--limit", str(limit)] if limit else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, extra, bound = map(float, done.stdout.split()[-3:])
        found.append(seconds)
        print(
            f"{f'limit {limit:g} GiB' if limit else 'no limit':<16}{seconds:>8.1f} s, "
            f"{extra:.2f} GiB more than before; the graph implies {bound:.2f} GiB",
            flush=True,
        )
    print(f"with the limit {found[1] / found[0]:.2f} times as long")


def alone(options: argparse.Namespace) -> None:
    """One run in this process: seconds, extra memory, and the bound, in GiB."""
    import bnfix

    K = importlib.import_module(options.keras)
    steps = []
    for _ in range(LAYERS):
        steps += [K.layers.Conv2D(CHANNELS, 1), K.layers.BatchNormalization(), K.layers.ReLU()]
    model = K.Sequential([K.Input(SHAPE), *steps])
    bnfix.recalibrate(model, images(2 * BATCH), verbose=0)  # what is loaded once
    before = held()
    begin = time.perf_counter()
    limit = int(options.limit * GIB) if options.limit else None
    _, report = bnfix.recalibrate(
        model, images(options.images), memory_limit=limit, verbose=0, return_report=True
    )
    seconds = time.perf_counter() - begin
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(seconds, (most - before) / GIB, report.memory / GIB)


def images(count: int) -> Iterator[Any]:
    rng = np.random.default_rng(0)
    for _ in range(0, count, BATCH):
        yield rng.random((BATCH, *SHAPE), np.float32)


def held() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=7680, help="default: %(default)s")
    parser.add_argument("--limit", type=float, help="GiB (default: 1)")
    parser.add_argument("--keras", choices=("keras", "tf_keras"), default="keras")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.alone:
        options.limit = options.limit or 1.0
    return options


if __name__ == "__main__":
    main()
