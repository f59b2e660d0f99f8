"""What a pass may ask about a layer beyond its place in the graph, answered in plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from bnfix.graph.definition import Definitions, LayerKey, Node
from bnfix.graph.graph import Call, Graph
from bnfix.numerics.linear import Linear
from bnfix.numerics.norm import NormSpec


class Source(Protocol):
    """A model read: its graph, and its weights on demand."""

    @property
    def graph(self) -> Graph: ...

    @property
    def definitions(self) -> Definitions: ...

    def is_batch_norm(self, layer: LayerKey) -> bool:
        """Whether `layer` is a BatchNormalization, subclasses included."""
        ...

    def norm(self, call: Call) -> NormSpec | None:
        """The BatchNormalization that `call` applies; None if it has several channel axes."""
        ...

    def linear(self, call: Call) -> Linear | None:
        """The linear layer that `call` applies, or None if it is not one of Keras's own."""
        ...

    def options(self, call: Call) -> Mapping[str, Any]:
        """The configuration of the layer that `call` applies."""
        ...

    def plain_passes_masks(self) -> bool:
        """Whether a mask travels through the affine layer that a BatchNormalization may become."""
        ...

    def hidden(self) -> Mapping[str, str]:
        """By path, why a BatchNormalization that the model runs is no call of the graph."""
        ...


def baked_over_batch_norm(source: Source) -> list[str]:
    """Paths of calls with `training=True` that reach a BatchNormalization, in order."""
    found = {
        path: None
        for _, path, node in source.definitions.written()
        if node.training and _runs_batch_norm(source, node)
    }
    return list(found)


def _runs_batch_norm(source: Source, node: Node) -> bool:
    if node.binding is None:
        return source.is_batch_norm(node.layer)
    return any(_runs_batch_norm(source, inner) for inner in source.definitions[node.layer].nodes)
