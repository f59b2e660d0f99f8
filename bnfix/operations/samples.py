"""Inputs that a model accepts and that excite it, made from what the model says of its inputs.

Standard normal numbers tell nothing of a model that divides by 255 first, or looks them up in a
table. So each input is followed to the layers that read it, and drawn from what these expect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnfix.graph.definition import TensorSpec
from bnfix.graph.graph import Call, Graph, Value

#: Lengths tried, in order, for axes that the model leaves open.
_OPEN_LENGTHS = (16, 32, 64, 128, 256, 1024, 4096, 16384)
#: Values of one input above which no longer one is tried.
_MOST_VALUES = 1 << 22
#: Layers that hand on values as they are, or in another shape.
_HANDS_ON = ("InputLayer", "Reshape", "Flatten", "Permute", "Dropout", "Identity", "RepeatVector")


@dataclass(frozen=True)
class Domain:
    """Where the values of an input come from.

    Attributes:
        low: Smallest whole number, if values are whole numbers.
        high: Largest one; None if values are no whole numbers.
        mean: Of normal numbers, a number or what broadcasts against the input.
        deviation: As `mean`.
        words: What strings are drawn from.
    """

    low: int = 0
    high: int | None = None
    mean: Any = 0.0
    deviation: Any = 1.0
    words: tuple[str, ...] = ("a", "b", "the cat", "")


def domains(graph: Graph, layer_of: Callable[[Call], Any]) -> list[Domain]:
    """What each input of `graph` is to be drawn from, by the layers that read it.

    Args:
        graph: Of the model.
        layer_of: The layer that a call applies.
    """
    return [next(_expected(graph, value, layer_of), Domain()) for value in graph.inputs]


def samples(
    specs: Sequence[TensorSpec],
    *,
    rows: int,
    expected: Sequence[Domain] | None = None,
    seed: int = 0,
) -> Iterator[list[Any]]:
    """Lists of arrays, one per spec, from `expected` first, then spread more widely.

    One round of them where all axes but the batch are fixed; else one for each length worth trying.
    """
    drawn_from = list(expected or [Domain()] * len(specs))
    is_open = any(size is None for spec in specs for size in spec.shape[1:])
    for length in _OPEN_LENGTHS if is_open else _OPEN_LENGTHS[:1]:
        if length > _OPEN_LENGTHS[0] and _values(specs, length) > _MOST_VALUES:
            return
        for spread in _SPREADS:
            generator = np.random.default_rng(seed)
            yield [
                _sample(spec, spread(domain, spec), rows, length, generator)
                for spec, domain in zip(specs, drawn_from, strict=True)
            ]


def _values(specs: Sequence[TensorSpec], length: int) -> int:
    return max(math.prod(size or length for size in spec.shape[1:]) for spec in specs)


# --- what layers expect ------------------------------------------------------------------------


def _expected(graph: Graph, value: Value, layer_of: Callable[[Call], Any]) -> Iterator[Domain]:
    for reader in graph.consumers(value):
        # A function that stands for a layer has none to ask.
        if reader.kind in _EXPECTS and reader.options is None:
            found = _EXPECTS[reader.kind](layer_of(reader))
            if found is not None:
                yield found
        elif reader.kind in _HANDS_ON:
            yield from _expected(graph, reader.outputs[0], layer_of)


def _looked_up(layer: Any) -> Domain:
    # 0 is what masks leave out; a table of one entry has nothing else.
    last = max(int(layer.input_dim) - 1, 0)
    return Domain(min(1, last), last)


def _categories(layer: Any) -> Domain:
    return Domain(0, max(int(layer.num_tokens or 1) - 1, 0))


def _vocabulary(layer: Any) -> Domain | None:
    known = list(layer.get_vocabulary(include_special_tokens=False))
    if not known:
        return None
    if isinstance(known[0], str):
        return Domain(words=tuple(known[:_WORDS]))
    return Domain(int(min(known)), int(max(known)))


def _rescaled(layer: Any) -> Domain | None:
    scale, offset = np.asarray(layer.scale, float), np.asarray(layer.offset, float)
    if not np.all(scale):
        return None
    return Domain(mean=-offset / scale, deviation=1 / np.abs(scale))


def _normalized(layer: Any) -> Domain | None:
    mean, variance = getattr(layer, "mean", None), getattr(layer, "variance", None)
    if mean is None or variance is None:
        return None
    held = [np.asarray(part, float)[0] for part in (mean, variance)]  # with a batch axis in front
    return Domain(mean=held[0], deviation=np.sqrt(np.maximum(held[1], 0)) + 1e-7)


_WORDS = 64
_EXPECTS: Mapping[str, Callable[[Any], Domain | None]] = {
    "Embedding": _looked_up,
    "CategoryEncoding": _categories,
    "StringLookup": _vocabulary,
    "IntegerLookup": _vocabulary,
    "TextVectorization": _vocabulary,
    "Rescaling": _rescaled,
    "Normalization": _normalized,
}


# --- drawing -----------------------------------------------------------------------------------


def _as_expected(domain: Domain, spec: TensorSpec) -> Domain:
    return domain


def _as_images(domain: Domain, spec: TensorSpec) -> Domain:
    """From 0 to about 255, where nothing is known of a number."""
    if domain.high is None and "int" in spec.dtype:
        return Domain(0, 255 if "8" not in spec.dtype or spec.dtype == "uint8" else 127)
    return Domain(mean=128.0, deviation=64.0) if domain == Domain() else domain


def _widely(domain: Domain, spec: TensorSpec) -> Domain:
    """Into every corner: an activation that is flat around zero is not so everywhere."""
    return Domain(deviation=16.0) if domain == Domain() else domain


_SPREADS = (_as_expected, _as_images, _widely)


def _sample(
    spec: TensorSpec, domain: Domain, rows: int, length: int, generator: np.random.Generator
) -> Any:
    batch = rows if not spec.shape or spec.shape[0] is None else spec.shape[0]
    shape = (batch, *(length if size is None else size for size in spec.shape[1:]))
    if spec.dtype == "string":
        return generator.choice(np.array(domain.words, dtype=object), shape)
    if spec.dtype == "bool":
        return generator.random(shape) < 0.5
    dtype = spec.dtype if spec.dtype in ("float16", "float64") else "float32"
    if "int" in spec.dtype or domain.high is not None:
        high = 1 if domain.high is None else domain.high
        drawn = generator.integers(domain.low, high, shape, endpoint=True)
        return drawn.astype(spec.dtype if "int" in spec.dtype else dtype)
    return _placed(generator.standard_normal(shape), domain).astype(dtype)


def _placed(drawn: Any, domain: Domain) -> Any:
    """Standard normal numbers with the mean and deviation that are expected, where these fit."""
    try:
        return np.broadcast_to(drawn * domain.deviation + domain.mean, drawn.shape)
    except ValueError:
        return drawn
