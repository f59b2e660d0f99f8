"""What does folding take in memory, beside the size of the model's file?

    python benchmarks/fold_memory.py --keras tf_keras

Linux alone: the largest size of the process while `fold` runs, its proof included, less its size
before, which holds the model given. The new model alone takes the size of the file.
"""

from __future__ import annotations

import argparse
import importlib
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import bnfix

MIB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keras", choices=("keras", "tf_keras"), default="keras")
    parser.add_argument("--channels", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=10)
    options = parser.parse_args()
    K = importlib.import_module(options.keras)
    model = network(K, options.channels, options.layers)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.h5"
        bnfix.save(model, path)
        size = path.stat().st_size / MIB
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the largest size is counted from here
    bnfix.fold(model, verbose=0)
    more = _status("VmHWM") - before
    print(f"file {size:.0f} MiB, fold {more:.0f} MiB more than before, ratio {more / size:.2f}")


def network(K: Any, channels: int, layers: int) -> Any:
    """Pairs of a convolution and a BatchNormalization, on images so small that weights count."""
    x = inputs = K.Input((8, 8, channels))
    for _ in range(layers):
        x = K.layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
        x = K.layers.ReLU()(K.layers.BatchNormalization()(x))
    return K.Model(inputs, x)


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


if __name__ == "__main__":
    main()
