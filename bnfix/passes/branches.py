"""What makes the addends of a sum, and of what?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bnfix.graph.graph import Call, Graph, Value
from bnfix.passes.absorbing import Folded, is_passed


@dataclass(frozen=True)
class Addend:
    """The input `value` of the sum `join`, at `position`."""

    join: Call
    position: int
    value: Value


def maker(graph: Graph, value: Value, done: Folded) -> Call | None:
    """What makes `value`, for nobody else than who reads it here, past folded normalizations."""
    alone = len(graph.consumers(value)) == 1 and value not in graph.unread
    if not alone or graph.is_output(value):
        return None
    call = graph.producer(value)
    return maker(graph, call.inputs[0], done) if is_passed(call, done) else call


def origin(graph: Graph, value: Value, done: Folded) -> Value:
    """The tensor that `value` is, past everything that hands it on as it is."""
    call = graph.producer(value)
    return origin(graph, call.inputs[0], done) if is_passed(call, done) else value


def addends(graph: Graph, join: Call, done: Folded) -> Iterator[Addend]:
    """What `join` adds up, sums that are made for nobody else taken apart."""
    for position, value in enumerate(join.inputs):
        inner = partial_sum(graph, value, done)
        if inner is None:
            yield Addend(join, position, value)
        else:
            yield from addends(graph, inner, done)


def partial_sum(graph: Graph, value: Value, done: Folded) -> Call | None:
    """The sum that makes `value` for nobody else than who reads it here."""
    call = maker(graph, value, done)
    return call if call is not None and call.kind == "Add" and is_whole(call) else None


def is_whole(join: Call) -> bool:
    """Whether `join` reads tensors of one shape, none of them twice."""
    alike = all(value.shape == join.outputs[0].shape for value in join.inputs)
    return alike and len(set(join.inputs)) == len(join.inputs)
