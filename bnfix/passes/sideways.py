"""Move the map of a BatchNormalization sideways, into a linear layer beside it.

Networks that are trained with an identity branch (Ding et al. 2021, RepVGG, arXiv:2101.03697) add

    W*x + (scale x + shift)  =  (W + diag(scale - 1))*x + shift  +  x

where the diagonal lies at the tap of the kernel that sees the very position. So a sibling that
reads the same tensor takes up the map, and the branch hands its input on as it is.
"""

from __future__ import annotations

from bnfix.graph.graph import Call, Graph, Value
from bnfix.graph.source import Source
from bnfix.numerics.affine import Affine
from bnfix.numerics.linear import Linear, plus_input
from bnfix.numerics.norm import NormSpec
from bnfix.numerics.window import identity
from bnfix.passes.absorbing import (
    Absorbed,
    Folded,
    Objection,
    check_not_returned,
    free_linear,
    is_passed,
    map_of,
)
from bnfix.passes.branches import addends, is_whole, maker, origin


def absorbing(source: Source, norm: Call, spec: NormSpec, done: Folded) -> list[Absorbed]:
    """What takes up `spec`, which `norm` applies.

    Raises:
        Objection: No layer beside it that reads the same and is added to it can.
    """
    affine = map_of(spec, norm)
    join = _sum_behind(source.graph, norm.outputs[0], done)
    read = origin(source.graph, norm.inputs[0], done)
    why = f"no linear layer beside it reads what it reads, to be added in {join.path}"
    for addend in addends(source.graph, join, done):
        call = maker(source.graph, addend.value, done)
        if call is None or not call.inputs or origin(source.graph, call.inputs[0], done) != read:
            continue
        try:
            linear = free_linear(source, call, done)
            if linear is not None:
                return [Absorbed(call, affine, _with_map(linear, call, affine))]
        except Objection as objection:
            why = str(objection)
    raise Objection(why)


def _sum_behind(graph: Graph, value: Value, done: Folded) -> Call:
    """The Add that alone reads `value`, and tensors of one shape."""
    reader = _sole_reader(graph, value)
    if is_passed(reader, done):
        return _sum_behind(graph, reader.outputs[0], done)
    if reader.kind != "Add" or not is_whole(reader):
        raise Objection(f"it is not one of the addends of {reader.path} ({reader.kind})")
    try:
        return _sum_behind(graph, reader.outputs[0], done)  # `x + y + z` are two
    except Objection:
        return reader


def _sole_reader(graph: Graph, value: Value) -> Call:
    check_not_returned(graph, value)
    readers = graph.consumers(value)
    if len(readers) != 1:
        raise Objection(f"{graph.producer(value).path} is read by {len(readers)} layers")
    return readers[0]


def _with_map(linear: Linear, call: Call, affine: Affine) -> Linear:
    side, shape = linear.input, call.inputs[0].shape
    if linear.activation != "linear":
        raise Objection(f"{call.path} beside it applies {linear.activation}")
    if side is None or side.window is None:
        raise Objection(f"no tap of {call.path} ({call.kind}) beside it sees the very position")
    if shape != call.outputs[0].shape or not side.one_to_one(linear):
        raise Objection(f"{call.path} beside it makes other channels than it reads")
    if affine.varies - {side.axis - 1} or call.inputs[0].dtype != call.outputs[0].dtype:
        raise Objection(f"the channels of {call.path} beside it lie along axis {side.axis}")
    axes = len(side.window.size)
    places = side.window.places(identity(axes), [None] * axes)
    if places is None:
        raise Objection(f"no tap of {call.path} ({call.kind}) beside it sees the very position")
    scale, shift = affine.along(side.axis - 1, linear.channels)
    return plus_input(linear, tuple(taps[0] for taps in places), scale - 1, shift)
