"""Can the data go through the graph of a model, and does that graph compute what the model does?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from bnfix.adapters.defining import flat_inputs
from bnfix.adapters.reading import Reading, readable
from bnfix.adapters.subject import Subject
from bnfix.breadth_first.loading import Loaded, as_inputs
from bnfix.errors import DataError
from bnfix.graph.definition import TensorSpec
from bnfix.graph.graph import Value
from bnfix.numerics.tolerance import rounding
from bnfix.tree import map_leaves


def opened(
    subject: Subject, batches: Iterator[Loaded], *, held: bool
) -> tuple[Reading | None, Iterator[Loaded]]:
    """The model read for `batches`, None where it has to run by its own code; and the batches.

    Args:
        subject: A built model.
        batches: At least one; read as far as that is needed.
        held: Whether all of them may be held in memory.
    """
    adapter, model = subject
    if adapter.has_graph(model):
        reading = Reading(subject)
        if not reading.opened:
            return reading, batches
        first = next(batches)
        batches = chain([first], batches)
        return (reading if _agrees(reading, first) else None), batches
    first = next(batches)
    batches = chain([first], batches)
    if held:  # a graph is for one shape, code is for any
        every = list(batches)
        batches = iter(every)
        if len({_shapes(one) for one in every}) > 1:
            return None, batches
    reading = readable(subject, x=first.batch.x)
    if reading is None or not _agrees(reading, _in_order(reading, first)):
        return None, batches
    wanted = _shapes(first)
    return reading, (_checked(reading, one, wanted) for one in batches)


def _in_order(reading: Reading, one: Loaded) -> Loaded:
    """`one` with its inputs in the order of the graph's."""
    return replace(one, flat=flat_inputs(reading.adapter, reading.functional, one.batch.x))


def _checked(reading: Reading, one: Loaded, wanted: tuple[tuple[int, ...], ...]) -> Loaded:
    if _shapes(one) != wanted:
        raise DataError(
            f"batch {one.batch.index} has rows of shapes {_shapes(one)}, the first has {wanted}; "
            "with a memory_limit all rows have to be of one shape."
        )
    return _in_order(reading, one)


def _shapes(one: Loaded) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(np.shape(leaf)[1:]) for leaf in one.flat)


def _agrees(reading: Reading, first: Loaded) -> bool:
    """Whether the graph computes what the model's own code does, on a few rows.

    Not to be told of calls with `training=True`, which the graph is run without.
    """
    if any(call.training for call in reading.graph):
        return True
    adapter, model = reading.adapter, reading.model
    x = map_leaves(lambda leaf: leaf[:_ROWS], first.batch.x)
    flat = map_leaves(lambda leaf: leaf[:_ROWS], first.flat)
    one = replace(first, batch=replace(first.batch, x=x), flat=flat)
    try:
        with adapter.preserved(model), adapter.inference():
            made = _evaluated(reading, flat)
            wanted = adapter.infer(model, as_inputs(reading.subject, one))
    except adapter.run_errors:
        return False  # the engine that runs the model itself tells what is wrong
    tolerance = rounding(adapter.rounding_dtype(model), len(reading.graph), 1.0)
    return all(
        bool(np.all(np.abs(ours - theirs) <= tolerance * np.max(np.abs(theirs), initial=0.0)))
        for ours, theirs in zip(made, wanted, strict=True)
        if theirs.dtype.kind == "f"
    )


#: Rows on which graph and code are compared.
_ROWS = 2


def _evaluated(reading: Reading, flat: list[Any]) -> list[Any]:
    """What the calls of the graph make of `flat`, one after the other."""
    adapter, made = reading.adapter, dict[Value, Any]()
    entering = dict(zip(reading.graph.inputs, flat, strict=True))
    for call in reading.graph:
        args, kwargs = map_leaves(
            lambda leaf: made[leaf] if isinstance(leaf, Value) else leaf, call.arguments
        )
        output = call.outputs[0]
        if call.kind == "InputLayer":
            given = entering[output] if output in entering else args[0]
            outputs = [adapter.to_tensor(given, TensorSpec(output.shape, output.dtype))]
        else:
            mode = {"training": False} if call.accepts_training else {}
            outputs = adapter.flatten(reading.layers[call.layer](*args, **kwargs, **mode))
        made.update(zip(call.outputs, outputs, strict=True))
    return [adapter.to_numpy(made[value]) for value in reading.graph.outputs]
