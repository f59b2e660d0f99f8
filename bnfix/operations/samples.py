"""Inputs that a model accepts, made from its input specifications alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bnfix.graph.definition import TensorSpec

#: Lengths tried, in order, for axes that the model leaves open.
_OPEN_LENGTHS = (16, 32, 64, 128, 256)


def samples(specs: list[TensorSpec], *, rows: int, seed: int = 0) -> Iterator[list[Any]]:
    """Lists of arrays, one per spec: standard normal, 0/1 for integers, short words for strings.

    One list where all axes but the batch are fixed; else one for each length worth trying.
    """
    is_open = any(size is None for spec in specs for size in spec.shape[1:])
    for length in _OPEN_LENGTHS if is_open else _OPEN_LENGTHS[:1]:
        generator = np.random.default_rng(seed)
        yield [_sample(spec, rows, length, generator) for spec in specs]


def _sample(spec: TensorSpec, rows: int, length: int, generator: np.random.Generator) -> Any:
    batch = rows if not spec.shape or spec.shape[0] is None else spec.shape[0]
    shape = (batch, *(length if size is None else size for size in spec.shape[1:]))
    if spec.dtype == "string":
        return generator.choice(np.array(["a", "b", "the cat", ""], dtype=object), shape)
    if spec.dtype == "bool":
        return generator.random(shape) < 0.5
    if "int" in spec.dtype:
        return generator.integers(0, 2, shape).astype(spec.dtype)
    dtype = spec.dtype if spec.dtype in ("float16", "float64") else "float32"
    return generator.standard_normal(shape).astype(dtype)
