"""Move the map of a BatchNormalization up, into the linear layers that feed it."""

from __future__ import annotations

from collections.abc import Iterator

from bnfix.graph.graph import Call, Graph, Value
from bnfix.graph.source import Source
from bnfix.numerics.affine import Affine
from bnfix.numerics.linear import Linear, scale_and_shift
from bnfix.numerics.norm import NormSpec
from bnfix.passes.absorbing import (
    Absorbed,
    Folded,
    Objection,
    check_not_returned,
    free_linear,
    is_passed,
    map_of,
)
from bnfix.passes.moving import SHAPE_ONLY, before


def absorbing(source: Source, norm: Call, spec: NormSpec, done: Folded) -> list[Absorbed]:
    """What takes up `spec`, which `norm` applies.

    Raises:
        Objection: Something on the way up does not let it pass, or is read elsewhere too.
    """
    return list(_up(source, norm.inputs[0], norm, map_of(spec, norm), norm, done))


def _up(
    source: Source, value: Value, reader: Call, affine: Affine, norm: Call, done: Folded
) -> Iterator[Absorbed]:
    """Take `affine`, which `reader` would see on `value`, up from there."""
    _check_sole_reader(source.graph, value, reader)
    call = source.graph.producer(value)
    if is_passed(call, done):
        yield from _up(source, call.inputs[0], call, affine, norm, done)
        return
    linear = free_linear(source, call, done)
    if linear is not None:
        yield Absorbed(call, affine, _with_map(linear, call, affine, norm))
        return
    for above, part in zip(
        call.inputs, before(call, source.options, affine, value.output), strict=True
    ):
        yield from _up(source, above, call, part, norm, done)


def _with_map(linear: Linear, call: Call, affine: Affine, norm: Call) -> Linear:
    if linear.activation != "linear":
        raise Objection(f"{call.path} applies {linear.activation} before the normalization")
    axis = linear.axis - 1
    if affine.varies - {axis}:
        others = ", ".join(str(each + 1) for each in sorted(affine.varies))
        raise Objection(
            f"{norm.path} normalizes axis {others}, but the channels of {call.path} lie along axis "
            f"{linear.axis}"
        )
    return scale_and_shift(linear, *affine.along(axis, linear.channels))


def _check_sole_reader(graph: Graph, value: Value, reader: Call) -> None:
    check_not_returned(graph, value)
    call = graph.producer(value)
    others = [
        other.path
        for other in graph.consumers(value)
        if other.index != reader.index and other.kind != SHAPE_ONLY
    ]
    if others:
        raise Objection(f"{call.path} also feeds {', '.join(sorted(set(others)))}")
