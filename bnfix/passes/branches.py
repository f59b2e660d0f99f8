"""What makes the addends of a sum, and of what?"""

from __future__ import annotations

from collections.abc import Iterator

from bnfix.graph.graph import Call, Graph, Value
from bnfix.passes.absorbing import Folded, is_passed


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


def addends(graph: Graph, join: Call, done: Folded) -> Iterator[Value]:
    """What `join` adds up, sums that are made for nobody else taken apart."""
    for value in join.inputs:
        call = maker(graph, value, done)
        if call is not None and call.kind == "Add" and is_whole(call):
            yield from addends(graph, call, done)
        else:
            yield value


def is_whole(join: Call) -> bool:
    """Whether `join` reads tensors of one shape, none of them twice."""
    alike = all(value.shape == join.outputs[0].shape for value in join.inputs)
    return alike and len(set(join.inputs)) == len(join.inputs)
