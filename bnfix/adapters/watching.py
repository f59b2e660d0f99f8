"""Watch every layer of a model at work: what the first row brings in, and what comes out.

The calls are watched from inside, at `layer.call`: wrappers such as Keras 3's TimeDistributed do
not go through `__call__`. Only row 0 is kept, since that is what must not depend on its neighbours.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfix.adapters import weights
from bnfix.adapters.base import Adapter

Rows = tuple[npt.NDArray[Any], ...]


@dataclass(frozen=True)
class Event:
    """One call of one layer, recorded when it returned.

    Attributes:
        path: Names of the layers around it and its own, `outer/inner/bn`.
        layer: The layer itself.
        inputs: Row 0 of every tensor that went in, by position or by name; a mask is one of them.
        outputs: Row 0 of every tensor that came out.
    """

    path: str
    layer: Any
    inputs: Rows
    outputs: Rows


@contextmanager
def watched(adapter: Adapter, model: Any, rows: int) -> Generator[list[Event]]:
    """A list that fills with the calls made while the block runs, in the order they return.

    Args:
        rows: Length of the batches that the model is called on. The first axis of that length is
            taken for the rows; where a tensor has a multiple of it in front (time folded into the
            batch), that many entries make up row 0.
    """
    events: list[Event] = []
    around: list[str] = []
    with ExitStack() as undo:
        for layer in adapter.callables(model):
            own = vars(layer).get("call")
            layer.call = _spy(adapter, layer, events, around, rows)
            # Registered once the assignment has succeeded: there is nothing to undo before.
            if own is None:
                undo.callback(delattr, layer, "call")
            else:
                undo.callback(setattr, layer, "call", own)
        yield events


@contextmanager
def measured(
    adapter: Adapter, layers: list[Any]
) -> Generator[dict[int, list[tuple[Any, Any, Any]]]]:
    """Count, mean and variance per channel of what reaches each call of `layers`, by id.

    The BatchNormalizations `layers` are watched while the block runs, calls in order.
    """
    seen: dict[int, list[tuple[Any, Any, Any]]] = {}
    with ExitStack() as undo:
        for layer in layers:
            own = vars(layer).get("call")
            layer.call = _meter(adapter, layer, seen.setdefault(id(layer), []))
            if own is None:
                undo.callback(delattr, layer, "call")
            else:
                undo.callback(setattr, layer, "call", own)
        yield seen


def _meter(adapter: Adapter, layer: Any, calls: list[tuple[Any, Any, Any]]) -> Callable[..., Any]:
    call = layer.call

    @functools.wraps(call)
    def meter(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        axis = weights.channel_axis(layer, len(inputs.shape))
        mask = kwargs.get("mask")
        mask = adapter.mask_of(inputs) if mask is None else mask
        count, mean, variance = (
            np.asarray(adapter.to_numpy(part)) for part in adapter.moments(inputs, axis or 0, mask)
        )
        calls.append((count, mean, variance))
        return call(inputs, *args, **kwargs)

    return meter


def _spy(
    adapter: Adapter, layer: Any, events: list[Event], around: list[str], rows: int
) -> Callable[..., Any]:
    call = layer.call

    @functools.wraps(call)
    def spy(*args: Any, **kwargs: Any) -> Any:
        around.append(layer.name)
        try:
            # Taken before the call, which may change a state that it is given.
            entering = _first(adapter, (args, kwargs), rows)
            outputs = call(*args, **kwargs)
            path = "/".join(around)
        finally:
            around.pop()
        events.append(Event(path, layer, entering, _first(adapter, outputs, rows)))
        return outputs

    return spy


def _first(adapter: Adapter, structure: Any, rows: int) -> Rows:
    """Row 0 of every tensor in `structure` that has rows and values."""
    found: list[npt.NDArray[Any]] = []
    for leaf in adapter.flatten(structure):
        axis, length = _row_axis(tuple(getattr(leaf, "shape", None) or ()), rows)
        if not length:
            continue
        first = (slice(None),) * axis + (slice(0, length),)
        try:
            found.append(np.asarray(adapter.to_numpy(leaf[first])))
        except (AttributeError, *adapter.run_errors):
            continue  # ragged, or a placeholder in a loop that the layer traces by itself
    return tuple(found)


def _row_axis(shape: tuple[int | None, ...], rows: int) -> tuple[int, int]:
    """Axis along which the rows stand, and how many entries are row 0; (0, 0) if none."""
    if rows in shape:
        return shape.index(rows), 1  # not always in front: time-major layouts, attention heads
    folded = bool(shape) and bool(shape[0]) and shape[0] % rows == 0
    return (0, shape[0] // rows) if folded and shape[0] else (0, 0)
