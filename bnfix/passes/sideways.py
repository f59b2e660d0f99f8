"""Move the map of a BatchNormalization sideways, into a linear layer beside it.

Networks that are trained with an identity branch (Ding et al. 2021, RepVGG, arXiv:2101.03697) add

    W*x + (scale x + shift)  =  (W + diag(scale - 1))*x + shift  +  x

where the diagonal lies at the tap of the kernel that sees the very position. So a sibling that
reads the same tensor takes up the map, and the branch hands its input on as it is. The same goes
for an average pooling in the place of the identity (`averaging`).
"""

from __future__ import annotations

from bnfix.graph.graph import Call, Graph, Value
from bnfix.graph.source import Source
from bnfix.numerics.affine import Affine
from bnfix.numerics.linear import Linear
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
from bnfix.passes.averaging import Mean, averaged, plus_mean
from bnfix.passes.branches import addends, is_whole, maker, origin


def absorbing(source: Source, norm: Call, spec: NormSpec, done: Folded) -> list[Absorbed]:
    """What takes up `spec`, which `norm` applies.

    Raises:
        Objection: No layer beside it that reads the same and is added to it can.
    """
    affine = map_of(spec, norm)
    join = _sum_behind(source.graph, norm.outputs[0], done)
    read = _read(source, norm, done)
    why = f"no linear layer beside it reads what it reads, to be added in {join.path}"
    for addend in addends(source.graph, join, done):
        call = maker(source.graph, addend.value, done)
        value = origin(source.graph, call.inputs[0], done) if call and call.inputs else None
        if call is None or value not in read:
            continue
        try:
            linear = free_linear(source, call, done)
            if linear is not None:
                return [Absorbed(call, affine, _with_map(linear, call, affine, read[value]))]
        except Objection as objection:
            why = str(objection)
    raise Objection(why)


def _read(source: Source, norm: Call, done: Folded) -> dict[Value | None, Mean | None]:
    """What `norm` reads; and what an average pooling reads that makes it, with that pooling."""
    value = origin(source.graph, norm.inputs[0], done)
    found: dict[Value | None, Mean | None] = {value: None}
    call = source.graph.producer(value)
    mean = averaged(call, source)
    if mean is not None:
        found[origin(source.graph, call.inputs[0], done)] = mean
    return found


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


def _with_map(linear: Linear, call: Call, affine: Affine, mean: Mean | None) -> Linear:
    side, shape = linear.input, call.inputs[0].shape
    sees = "the very position" if mean is None else "what is averaged"
    if linear.activation != "linear":
        raise Objection(f"{call.path} beside it applies {linear.activation}")
    if side is None or side.window is None:
        raise Objection(f"no tap of {call.path} ({call.kind}) beside it sees {sees}")
    if (mean is None and shape != call.outputs[0].shape) or not side.one_to_one(linear):
        raise Objection(f"{call.path} beside it makes other channels than it reads")
    along = {side.axis} if mean is None else {side.axis, mean.axis}
    if affine.varies - {side.axis - 1} or len(along) > 1:
        raise Objection(f"the channels of {call.path} beside it lie along axis {side.axis}")
    if call.inputs[0].dtype != call.outputs[0].dtype:
        raise Objection(f"{call.path} beside it computes in another precision than it is given")
    lengths = [size for axis, size in enumerate(shape) if axis not in (0, side.axis)]
    lengths = lengths[len(lengths) - len(side.window.size) :]
    window = identity(len(lengths)) if mean is None else mean.window
    fits = len(window.size) == len(lengths)
    places = side.window.places(window, lengths) if fits else None
    if places is None:
        raise Objection(f"no tap of {call.path} ({call.kind}) beside it sees {sees}")
    scale, shift = affine.along(side.axis - 1, linear.channels)
    return plus_mean(linear, places, scale - 1, shift)
