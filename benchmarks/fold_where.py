"""Where does the time go, by kinds of operations, before and after folding?

    python benchmarks/fold_where.py --networks ResNet50 --batches 1

Folding can save no more than what the unfolded network spends outside of its convolutions and
matrix products: the *ceiling*. TensorFlow's own profiler tells; it runs as in `fold_speed`.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from fold_speed import WARM_UP, compiled, once, options_for, randomise_statistics

import bnfix

#: Kinds of operations that stay, and may come with a bias and an activation of their own.
_PRODUCTS = ("Conv2D", "MatMul", "DepthwiseConv2dNative")
_LISTED = 8


def main() -> None:
    options = options_for(__doc__)
    K = importlib.import_module(options.keras)
    for network in options.networks:
        K.utils.set_random_seed(0)
        shape = (options.size, options.size, 3)
        model = getattr(K.applications, network)(weights=None, input_shape=shape)
        randomise_statistics(model)
        folded = bnfix.fold(model)
        for batch in options.batches:
            x = np.random.default_rng(0).random((batch, *shape), np.float32)
            before, after = (
                by_kind(compiled(each), x, options.repeats) for each in (model, folded)
            )
            products = sum(ms for kind, ms in before.items() if kind.endswith(_PRODUCTS))
            ceiling = sum(before.values()) / products
            print(f"{network}, batch {batch}: ceiling {ceiling:.2f} x", flush=True)
            for name, found in (("before", before), ("after", after)):
                shown = ", ".join(f"{kind} {ms:.1f}" for kind, ms in found.most_common(_LISTED))
                print(f"  {name}: {sum(found.values()):.1f} ms: {shown}", flush=True)


def by_kind(call: Callable[[Any], Any], x: Any, repeats: int) -> Counter[str]:
    """Milliseconds of one call, by kinds of operations."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    for _ in range(WARM_UP):
        once(call, x)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for _ in range(repeats):
            once(call, x)
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


if __name__ == "__main__":
    main()
