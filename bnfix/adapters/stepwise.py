"""A TimeDistributed as a graph: the steps of all rows are rows of what it wraps.

    y[n, t] = layer(x[n, t])    is    y = rows_to_steps(layer(steps_to_rows(x)))

which shows what the layer does, and pools its statistics over rows and steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bnfix.adapters.base import Adapter
from bnfix.tree import leaves, map_leaves


def is_stepwise(adapter: Adapter, layer: Any) -> bool:
    return type(layer) is adapter.keras.layers.TimeDistributed


def objection(adapter: Adapter, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Why a call with these arguments is none of a graph, as the end of a sentence."""
    tensors = [leaf for leaf in leaves((args, kwargs)) if adapter.is_symbolic(leaf)]
    if len(tensors) != 1 or adapter.mask_of(tensors[0]) is not None:
        return "it takes a mask, or more than one tensor"
    if None in adapter.tensor_spec(tensors[0]).shape[1:]:
        return "the number of its steps, or their shape, is not known"
    return None


def call_of(adapter: Adapter, layer: Any) -> Callable[..., Any]:
    """What `layer.call` computes, written so that it can be recorded."""

    def call(x: Any, training: Any = None, mask: Any = None) -> Any:
        _, steps, *row = _known(adapter, x)
        options = {"training": training} if adapter.accepts_training(layer.layer) else {}
        made = layer.layer(adapter.reshape(x, (-1, *row)), **options)
        return map_leaves(
            lambda leaf: adapter.reshape(leaf, (-1, steps, *_known(adapter, leaf)[1:])), made
        )

    return call


def _known(adapter: Adapter, tensor: Any) -> tuple[int, ...]:
    """The shape of `tensor`, with -1 for what is not known: rows, and nothing else here."""
    return tuple(-1 if size is None else size for size in adapter.tensor_spec(tensor).shape)
