"""Move the map of a BatchNormalization down, into the linear layers that it feeds."""

from __future__ import annotations

from collections.abc import Iterator

from bnfix.graph.graph import Call, Value
from bnfix.graph.source import Source
from bnfix.numerics.affine import Affine
from bnfix.numerics.linear import Linear, scale_and_shift_input
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
from bnfix.passes.moving import SHAPE_ONLY, after


def absorbing(source: Source, norm: Call, spec: NormSpec, done: Folded) -> list[Absorbed]:
    """What takes up `spec`, which `norm` applies.

    Raises:
        Objection: Something on the way down does not let it pass, or it reaches an output.
    """
    return list(_down(source, norm.outputs[0], map_of(spec, norm), done))


def _down(source: Source, value: Value, affine: Affine, done: Folded) -> Iterator[Absorbed]:
    """Take `affine`, which was to be applied to what `value` will be, down from there."""
    graph = source.graph
    made_by = graph.producer(value).path
    check_not_returned(graph, value)
    readers = [reader for reader in graph.consumers(value) if reader.kind != SHAPE_ONLY]
    if not readers:
        raise Objection(f"nothing reads {made_by}")
    for reader in readers:
        if reader.inputs.count(value) > 1:
            raise Objection(f"{reader.path} reads {made_by} twice")
        if is_passed(reader, done):
            yield from _down(source, reader.outputs[0], affine, done)
            continue
        linear = free_linear(source, reader, done)
        if linear is not None:
            yield Absorbed(reader, affine, _with_map(linear, reader, affine))
        else:
            position = reader.inputs.index(value)
            passed = after(reader, source.options, affine, position)
            for output, part in zip(reader.outputs, passed, strict=True):
                if len(passed) == 1 or graph.consumers(output) or graph.is_output(output):
                    yield from _down(source, output, part, done)


def _with_map(linear: Linear, call: Call, affine: Affine) -> Linear:
    side = linear.input
    if side is None:
        raise Objection(f"it feeds {call.path} ({call.kind}), which only takes up what follows it")
    if affine.varies - {side.axis - 1}:
        raise Objection(
            f"the channels that reach {call.path} lie along axis {side.axis}, those normalized do "
            "not"
        )
    if not (side.uniform or affine.only_scales):
        raise Objection(
            f"it feeds {call.path} ({call.kind}), which adds zeros around its input that the "
            "normalization does not shift"
        )
    size = call.inputs[0].shape[side.axis]
    if size is None or len(call.inputs) > 1:
        raise Objection(f"{call.path} takes more than one tensor, or one of unknown length")
    return scale_and_shift_input(linear, side, *affine.along(side.axis - 1, size))
