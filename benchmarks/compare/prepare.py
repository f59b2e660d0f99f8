"""The files of the graphs: weights, inputs, and what the networks answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from . import in_keras
from .graphs import UNLIKE
from .written import Graph

ROWS = 4


def write(K: Any, graph: Graph, folder: Path) -> int:
    """Writes the file of `graph`, as `K` computes it; how many layers the network is deep."""
    model, layers = in_keras.build(K, graph)
    rng = np.random.default_rng(0)
    weights = in_keras.draw(layers, rng)
    model = in_keras.model_of(K, graph, weights)
    inputs = [rng.normal(size=(ROWS, *x.shape[1:])).astype("float32") for x in model.inputs]
    outputs = [] if graph.name in UNLIKE else in_keras.run(model, inputs)
    stored = {f"input_{i}": x for i, x in enumerate(inputs)}
    stored |= {f"output_{i}": x for i, x in enumerate(outputs)}
    np.savez(folder / f"{graph.name}.npz", **weights, **stored)
    return depth(model)


def depth(model: Any) -> int:
    """The layers of `model`, those of models in it included."""
    inner = getattr(model, "layers", None)
    return 1 if inner is None else sum(depth(layer) for layer in inner)
