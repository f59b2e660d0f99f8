"""A model and what becomes of it, side by side in one graph.

With some layers replaced, everything after them computes something else. Each call that this
concerns stands here twice: as it was, and on what the replaced layers make; calls before them serve
both. A replacement reads, besides its own input, what the original makes in its place, so that it
comes after it and the two can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bnfix.graph.definition import LayerKey
from bnfix.graph.graph import Call, Graph, Value
from bnfix.tree import map_leaves


def paired(graph: Graph, replacements: Mapping[LayerKey, LayerKey]) -> Graph:
    """The calls of `graph` and, after each, the one that is made of it.

    Args:
        graph: Of the model as it is.
        replacements: By key of the layer that goes, the key of the one that comes; it is called on
            the first input alone.
    """
    calls: list[Call] = []
    ours: dict[Value, Value] = {}
    theirs: dict[Value, Value] = {}
    for call in graph:
        original = _moved(call, len(calls), ours)
        calls.append(original)
        ours.update(zip(call.outputs, original.outputs, strict=True))
        twin = original
        if call.layer in replacements:
            twin = _replaced(call, len(calls), theirs, original, replacements[call.layer])
        elif any(theirs[value] != ours[value] for value in call.reads):
            twin = _moved(call, len(calls), theirs)
        if twin is not original:
            calls.append(twin)
        theirs.update(zip(call.outputs, twin.outputs, strict=True))
    inputs, outputs = (tuple(ours[v] for v in values) for values in (graph.inputs, graph.outputs))
    return Graph(tuple(calls), inputs, (*outputs, *(theirs[value] for value in graph.outputs)))


def _moved(call: Call, index: int, values: Mapping[Value, Value]) -> Call:
    """`call` as the `index`-th, on the `values` that stand for what it reads."""
    arguments = map_leaves(
        lambda leaf: values[leaf] if isinstance(leaf, Value) else leaf, call.arguments
    )
    return replace(
        call,
        index=index,
        arguments=arguments,
        inputs=tuple(values[value] for value in call.inputs),
        masks=tuple(values[value] for value in call.masks),
        outputs=tuple(replace(value, call=index) for value in call.outputs),
    )


def _replaced(
    call: Call, index: int, values: Mapping[Value, Value], original: Call, layer: LayerKey
) -> Call:
    twin = _moved(call, index, values)
    return replace(
        twin,
        layer=layer,
        arguments=((twin.inputs[0],), {}),
        inputs=(twin.inputs[0], original.outputs[0]),
        masks=(),
        accepts_training=False,
    )
