"""The graph of a model, for users."""

from __future__ import annotations

from typing import Any

from bnfix.adapters import state
from bnfix.adapters.reading import read
from bnfix.adapters.subject import Subject
from bnfix.breadth_first.loading import given
from bnfix.graph.graph import Graph
from bnfix.restoring import all_or_nothing


@all_or_nothing(state.settings)
def graph_of(model: Any, *, x: Any = None, open: str = "auto") -> Graph:
    """The calls of `model` in the order in which they run, nested models unfolded.

    Args:
        model: Built model of either Keras. Not changed.
        x: Inputs that tell what a subclassed model takes, where it does not know.
        open: Whose code is read where there is no graph: "auto" for that of the model and of what
            holds a BatchNormalization, "all" for every layer of a class made elsewhere, "never"
            for none. Code that goes another way for other values stays closed.

    Returns:
        A `Graph`: iterate it for `Call`s with full paths; ask it for producers, consumers, sharing.

    Raises:
        UnsupportedModelError: `model` is not built, or its code cannot be had as a graph.

    Examples:
        >>> [call.path for call in bnfix.graph_of(model) if call.kind == "BatchNormalization"]
        ['bn']
    """
    subject = Subject.of(model)
    return read(subject, "graph_of", x=given(subject, x), open=open).graph
