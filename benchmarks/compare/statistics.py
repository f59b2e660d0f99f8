"""How exact statistics are that are computed again, and how long it takes, by everybody's ways."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import in_keras
from .environments import interpreter
from .networks import NETWORKS
from .running import ROOT

BATCH = 32
IMAGES = 256
#: Passes of the training-mode loop.
PASSES = (1, 10)
#: Keras's own, and what is often set for that loop.
MOMENTUM = 0.9


def measured(K: Any, environments: Path | None, folder: Path) -> dict[str, Any]:
    """For each network and way: the errors in standard deviations, and the seconds."""
    python = interpreter("torch", environments)
    if python is None:
        print("statistics: PyTorch is not installed, skipped")
        return {}
    found: dict[str, Any] = {}
    for name in NETWORKS:
        file = _prepared(K, name, folder)
        print(f"statistics of {name}", flush=True)
        output = folder / f"{name}-reference.npz"
        module = "benchmarks.compare.torch_statistics"
        ran = subprocess.run(
            [python, "-m", module, name, file, output],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        told = json.loads(ran.stdout.splitlines()[-1])
        truth = dict(np.load(output))
        found["versions"] = told.pop("versions")
        rows = {**_in_keras(K, name, file), **told}
        found[name] = {
            way: {**errors(row["statistics"], truth), "seconds": row["seconds"]}
            for way, row in rows.items()
        }
    return found


def errors(statistics: dict[str, Any], truth: dict[str, Any]) -> dict[str, float]:
    """The largest error of a mean and of a standard deviation, in true standard deviations."""
    means = deviations = 0.0
    for norm, (mean, variance) in statistics.items():
        sigma = np.sqrt(truth[f"{norm}/variance"]) + 1e-12
        means = max(means, float(np.max(np.abs(mean - truth[f"{norm}/mean"]) / sigma)))
        deviations = max(deviations, float(np.max(np.abs(np.sqrt(variance) / sigma - 1))))
    return {"mean": means, "deviation": deviations}


def _prepared(K: Any, name: str, folder: Path) -> Path:
    """The file of weights and images; the network for digits is trained for two epochs before."""
    from bnfix.demo import digits

    x, y = digits(0)
    rng = np.random.default_rng(0)
    model, layers = in_keras.build(K, NETWORKS[name])
    weights = in_keras.draw(layers, rng)
    if name == "digits":
        K.utils.set_random_seed(0)  # of the order of batches
        loss = K.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss)
        model.fit(x[:1400], y[:1400], batch_size=BATCH, epochs=2, verbose=0)
        for kept, layer in layers.items():
            weights |= {f"{kept}/{i}": array for i, array in enumerate(layer.get_weights())}
        x = x[:1400]
    else:
        x = np.repeat(np.kron(x[:IMAGES], np.ones((1, 12, 12, 1), "float32")), 3, axis=-1)
    for key, array in weights.items():
        if key.startswith("bn_") and name != "digits":
            # As a network starts: scales of 1, shifts of 0, statistics that say nothing.
            weights[key] = np.full_like(array, float(key[-1] in "03"))
    file = folder / f"{name}.npz"
    np.savez(file, input_0=x.astype("float32"), **weights)
    return file


def _in_keras(K: Any, name: str, file: Path) -> dict[str, Any]:
    import bnfix

    stored = dict(np.load(file))
    x = stored["input_0"]

    def loop(passes: int) -> Callable[[Any], None]:
        def run(model: Any) -> None:
            import tensorflow as tf

            step = tf.function(lambda batch: model(batch, training=True))
            for _ in range(passes):
                for start in range(0, len(x), BATCH):
                    step(x[start : start + BATCH])

        return run

    ways: dict[str, Callable[[Any], Any]] = {
        "bnfix, exact": lambda model: bnfix.recalibrate(model, x, batch_size=BATCH, verbose=0),
        "bnfix, streaming": lambda model: bnfix.recalibrate(
            model, x, batch_size=BATCH, method="streaming", verbose=0
        ),
        **{f"training-mode loop, passes: {passes}": loop(passes) for passes in PASSES},
    }
    rows: dict[str, Any] = {}
    for way, run in ways.items():
        model, layers = in_keras.build(K, NETWORKS[name])
        for kept, layer in layers.items():
            layer.set_weights([stored[f"{kept}/{i}"] for i in range(len(layer.get_weights()))])
        norms = {kept: layer for kept, layer in layers.items() if kept.startswith("bn_")}
        for norm in norms.values():
            norm.momentum = MOMENTUM
        began = time.process_time()
        run(model)
        seconds = time.process_time() - began
        held = {
            kept: [np.asarray(w) for w in norm.get_weights()[2:]] for kept, norm in norms.items()
        }
        rows[way] = {"seconds": seconds, "statistics": held}
    return rows
