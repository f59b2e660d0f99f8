"""Read a Functional or Sequential model into plain data, nested models included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from bnfix.adapters import weights
from bnfix.adapters.base import Adapter
from bnfix.adapters.defining import Defining
from bnfix.adapters.opened import Opening
from bnfix.adapters.subject import Subject
from bnfix.errors import UnsupportedModelError
from bnfix.graph.definition import LayerKey, TensorSpec
from bnfix.graph.graph import Call, Graph, unfold
from bnfix.numerics.linear import Linear
from bnfix.numerics.norm import NormSpec
from bnfix.tree import map_leaves


class Reading:
    """A model read: plain data, and the layers that its keys stand for.

    Attributes:
        subject: What was read; it is not changed.
        adapter: Of the model's Keras.
        model: The model that was read.
        functional: The same as a graph: the model itself, or what its code amounts to.
        definitions: Every model in it, once.
        layers: Keras objects by key; of an opened layer, the graph of what it does.
        owners: By key of such a graph, that of the layer itself.
    """

    def __init__(
        self, subject: Subject, *, functional: Any = None, opening: Opening | None = None
    ) -> None:
        self.subject = subject
        self.adapter, self.model = adapter, model = subject
        self.functional = model if functional is None else functional
        self.opening = opening or Opening(adapter)
        defining = Defining(adapter, self.opening)
        self.definitions = defining.run(model, self.functional)
        self.layers, self.owners, self._keys = defining.layers, defining.owners, defining.keys

    @property
    def graph(self) -> Graph:
        return self._graph

    @cached_property
    def _graph(self) -> Graph:
        return unfold(self.definitions)

    def is_batch_norm(self, layer: LayerKey) -> bool:
        return self.adapter.is_batch_norm(self.layers[layer])

    def norm(self, call: Call) -> NormSpec | None:
        return weights.read_norm(self.layers[call.layer], len(call.inputs[0].shape))

    def channel_axis(self, call: Call) -> int | None:
        """Channel axis of the BatchNormalization that `call` applies; None if it has several."""
        return weights.channel_axis(self.layers[call.layer], len(call.inputs[0].shape))

    def linear(self, call: Call) -> Linear | None:
        layer, kind = self._wrapped(call)
        steps = int(layer is not self.layers[call.layer])  # axes in front that the layer never sees
        linear = weights.read_linear(layer, kind, len(call.outputs[0].shape) - steps)
        if linear is None:
            return None
        tied = linear.tied
        if tied is None and self._held[id(weights.kernel(layer))] > 1:
            tied = "shares its kernel with another layer"
        if tied is None and self._holders[id(layer)] > 1:
            tied = "is called by the code of another layer as well"
        side = linear.input and replace(linear.input, axis=linear.input.axis + steps)
        return replace(linear, axis=linear.axis + steps, input=side, tied=tied)

    def options(self, call: Call) -> Mapping[str, Any]:
        """The configuration of the layer that `call` applies; empty where it cannot tell."""
        if call.options is not None:
            return call.options
        try:
            return self.layers[call.layer].get_config()
        except Exception:  # code of whoever made the layer, or of an activation without a name
            return {}

    def plain_passes_masks(self) -> bool:
        """Whether a mask travels through the affine layer that a BatchNormalization may become."""
        return bool(self.adapter.keras.layers.Rescaling(1.0).supports_masking)

    def _wrapped(self, call: Call) -> tuple[Any, str]:
        """The layer that `call` applies, TimeDistributed or not, and its kind."""
        layer = weights.inner(self.layers[call.layer], call.kind)
        if layer is self.layers[call.layer]:
            return layer, call.kind
        return layer, type(layer).__name__ if self.adapter.is_own(layer) else "Custom"

    @cached_property
    def _held(self) -> Counter[int]:
        """How many layers, called or not, hold each variable."""
        # A model or a wrapper holds what its parts hold, which is no sharing.
        adapter = self.adapter
        parts = [layer for _, layer in adapter.tree(self.model) if not adapter.children(layer)]
        return Counter(id(variable) for part in parts for variable in part.weights)

    @cached_property
    def _holders(self) -> Counter[int]:
        """How many of the layers that the graph calls each layer is, or is part of."""
        called = {call.layer for call in self.graph}
        layers = (self.layers[key] for key in called)
        return self.adapter.holders(layer for layer in layers if self.adapter.is_layer(layer))

    def key(self, layer: Any) -> LayerKey | None:
        """The key that `layer` has, or None for one that no graph calls."""
        return self._keys.get(id(layer))

    @property
    def opened(self) -> list[Any]:
        """The layers that were opened, the model itself included where it has no graph."""
        return [self.layers[key] for key in dict.fromkeys(self.owners.values())]

    def opened_at(self) -> list[tuple[str, str]]:
        """Path and class of each layer that was opened; the model's path is its name."""
        top = [(self.model.name, self.model)] if self.functional is not self.model else []
        inside = [
            (path, self.layers[self.owners[node.layer]])
            for _, path, node in self.definitions.written()
            if node.layer in self.owners
        ]
        return [(path, type(layer).__name__) for path, layer in (*top, *inside)]

    def closed_at(self) -> list[tuple[str, str]]:
        """Path of each layer that was to be opened and stays closed, and why."""
        found = ((path, self.layers[node.layer]) for _, path, node in self.definitions.written())
        reasons = [(path, self.opening.reason(layer)) for path, layer in found]
        return [(path, reason) for path, reason in reasons if reason is not None]

    def hidden(self) -> Mapping[str, str]:
        """Why the graph does not show a BatchNormalization, by the paths of those in it that run.

        Those that the model never calls are left out.
        """
        around: dict[int, Call] = {}
        for call in self.graph:
            layer = self.layers[call.layer]
            if self.adapter.is_layer(layer) and not self.adapter.is_batch_norm(layer):
                norms = self.adapter.batch_norms(layer)
                around.update((id(norm), call) for _, norm in norms)
        return {
            path: self._why_closed(around[id(norm)])
            for path, norm in self.adapter.batch_norms(self.model)
            if id(norm) in around
        }

    def _why_closed(self, call: Call) -> str:
        layer = self.layers[call.layer]
        where = f"is called by the code of {call.path} ({type(layer).__name__})"
        reason = self.opening.reason(layer)
        if reason is None and call.kind in _STEP_BY_STEP:
            return f"{where}, which goes step by step, each from what the last one left"
        if reason is None:
            return f"{where}, which the graph does not show"
        return f"{where}, which stays closed: {reason}"


#: Layers of Keras's own that call others in a loop.
_STEP_BY_STEP = ("RNN", "Bidirectional")


def readable(subject: Subject, *, x: Any = None) -> Reading | None:
    """The model read, and opened where it has no graph; None where it cannot be had as one."""
    try:
        return read(subject, "reading", x=x)
    except UnsupportedModelError:
        return None


def read(subject: Subject, operation: str, *, x: Any = None, open: str = "auto") -> Reading:
    """Read a model, and open what has no graph of its own (`bnfix.adapters.opened`).

    Args:
        subject: The model.
        operation: Named in errors.
        x: Inputs that tell what a model without a graph takes, where it does not know.
        open: "never", "auto" or "all".
    """
    adapter, model = subject
    opening = Opening(adapter, open)
    if adapter.has_graph(model):
        return Reading(subject, opening=opening)
    if not model.built or open == "never":
        raise UnsupportedModelError(_no_graph(model, operation))
    specs = adapter.input_signature(model) if x is None else _specs(adapter, x)
    if specs is None:
        raise UnsupportedModelError(
            f"{operation} needs to know what {model.name} ({type(model).__name__}) takes, and the "
            "model does not tell: pass inputs as x=."
        )
    functional = opening.whole(model, specs, operation)
    return Reading(subject, functional=functional, opening=opening)


def _specs(adapter: Adapter, x: Any) -> Any:
    """What `x`, in any structure of arrays, would be fed to a model as."""

    def spec(leaf: Any) -> TensorSpec:
        found = adapter.tensor_spec(adapter.fed(leaf[:1]))
        return replace(found, shape=(None, *found.shape[1:]))

    return map_leaves(spec, x)


def _no_graph(model: Any, operation: str) -> str:
    kind = type(model).__name__
    if not model.built:
        return (
            f"{operation} needs a built model; {model.name} ({kind}) has never seen an input "
            "shape. "
            "Call it once on a batch, or give it an Input."
        )
    return (
        f"{operation} with open='never' needs a Functional or Sequential model; got {kind} "
        "(subclassed). bnfix.check, bnfix.freeze and bnfix.recalibrate accept it."
    )
