"""The graph of a model, for users."""

from __future__ import annotations

from typing import Any

from bnfix.adapters import state
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.reading import read
from bnfix.graph.graph import Graph
from bnfix.restoring import all_or_nothing


@all_or_nothing(state.settings)
def graph_of(model: Any) -> Graph:
    """The calls of `model` in the order in which they run, nested models unfolded.

    Args:
        model: Functional or Sequential model of either Keras. Not changed.

    Returns:
        A `Graph`: iterate it for `Call`s with full paths; ask it for producers, consumers, sharing.

    Raises:
        UnsupportedModelError: `model` is subclassed or not built, so it has no graph.
    """
    return read(adapter_of(model), model, "graph_of").graph
