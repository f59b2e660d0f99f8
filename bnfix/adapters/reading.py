"""Read a Functional or Sequential model into plain data, nested models included."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from bnfix.adapters import weights
from bnfix.adapters.base import Adapter
from bnfix.adapters.opened import Opening
from bnfix.adapters.operators import UNKNOWN, Function, Operator, translated
from bnfix.adapters.structure import RawNode
from bnfix.adapters.tracing import PassedOn
from bnfix.errors import DataError, UnsupportedModelError
from bnfix.graph.definition import Definition, Definitions, LayerKey, Node, Slot, TensorSpec
from bnfix.graph.graph import Call, Graph, unfold
from bnfix.numerics.linear import Linear
from bnfix.numerics.norm import NormSpec
from bnfix.tree import leaves, map_leaves


class Reading:
    """A model read: plain data, and the layers that its keys stand for.

    Attributes:
        adapter: Of the model's Keras.
        model: The model that was read; it is not changed.
        functional: The same as a graph: the model itself, or what its code amounts to.
        definitions: Every model in it, once.
        layers: Keras objects by key; of an opened layer, the graph of what it does.
        owners: By key of such a graph, that of the layer itself.
    """

    def __init__(
        self,
        adapter: Adapter,
        model: Any,
        *,
        functional: Any = None,
        opening: Opening | None = None,
    ) -> None:
        self.adapter = adapter
        self.model = model
        self.functional = model if functional is None else functional
        self.opening = opening or Opening(adapter)
        self.layers: dict[LayerKey, Any] = {}
        self.owners: dict[LayerKey, LayerKey] = {}
        self._keys: dict[int, LayerKey] = {}
        if self.functional is not model:
            self.owners[self._key(self.functional)] = self._key(model)
        nested: dict[LayerKey, Definition] = {}
        top = self._define(self.functional, nested)
        self.definitions = Definitions(top, nested)

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
        if reason is None:
            return f"{where}, which the graph does not show"
        return f"{where}, which stays closed: {reason}"

    # --- building the definitions ------------------------------------------------------------

    def _key(self, layer: Any) -> LayerKey:
        key = self._keys.setdefault(id(layer), len(self._keys))
        self.layers[key] = layer
        return key

    def _define(self, model: Any, nested: dict[LayerKey, Definition]) -> Definition:
        """The definition of `model`; those of the models in it go into `nested`."""
        key = self._key(model)
        slots: dict[int, Slot] = {}
        nodes: list[Node] = []
        names = _Names()
        for raw in self.adapter.nodes(model):
            node = self._node(raw, slots)
            if key in self.owners:  # code may give two layers one name, a graph may not
                node = replace(node, name=names.of(node))
            if node.binding is not None and node.layer not in nested:
                nested[node.layer] = self._define(self.layers[node.layer], nested)
            for output, tensor in enumerate(raw.outputs):
                slots.setdefault(id(tensor), Slot(len(nodes), output))
            nodes.append(node)
        inputs = tuple(slots[id(tensor)] for tensor in model.inputs)
        outputs = tuple(slots[id(tensor)] for tensor in model.outputs)
        return Definition(key, model.name, tuple(nodes), inputs, outputs)

    def _node(self, raw: RawNode, slots: dict[int, Slot]) -> Node:
        layer, adapter = raw.layer, self.adapter
        args, kwargs = raw.args, dict(raw.kwargs)
        training, by_default, masks = None, False, frozenset[str]()
        if not adapter.is_operation(layer):
            args, kwargs = _named(layer, raw)
            by_default = _trains_by_default(layer, kwargs, adapter)
            training = _take_training(layer, kwargs, adapter)
            masks = frozenset(name for name in kwargs if _is_mask(name))
        arguments = map_leaves(
            lambda leaf: slots[id(leaf)] if adapter.is_symbolic(leaf) else leaf, (args, kwargs)
        )
        outputs = tuple(adapter.tensor_spec(tensor) for tensor in raw.outputs)
        operator = self._operator(raw, outputs)
        closed = None
        unfolds = adapter.is_model(layer) and adapter.has_graph(layer)
        binding = self._binding(raw, arguments) if unfolds else None
        opened = None if unfolds else self.opening.of(layer, args, kwargs)
        if opened is not None:
            owner = self._key(layer)
            self.owners[self._key(opened.model)] = owner
            closed = (owner, arguments) if self.opening.can_be_copied(layer) else None
            binding = tuple(slots[id(tensor)] for tensor in opened.fed)
            arguments = ((binding[0] if len(binding) == 1 else list(binding),), {})
        return Node(
            layer=self._key(layer if opened is None else opened.model),
            name=layer.name,
            kind=self._kind(raw) if operator is None else operator.kind,
            arguments=arguments,
            training=training,
            outputs=outputs,
            binding=binding,
            accepts_training=adapter.accepts_training(layer),
            trains_by_default=by_default,
            kept_calm=training is False and adapter.default_training(layer) is True,
            masked=any(adapter.mask_of(leaf) is not None for leaf in leaves((args, kwargs))),
            masks=masks if opened is None else frozenset(),
            options=None if operator is None else operator.options,
            closed=closed,
        )

    def _kind(self, raw: RawNode) -> str:
        if raw.is_input:
            return "InputLayer"
        if self.adapter.is_operation(raw.layer):
            return "Operation"
        return type(raw.layer).__name__ if self.adapter.is_own(raw.layer) else "Custom"

    def _operator(self, raw: RawNode, outputs: tuple[TensorSpec, ...]) -> Operator | None:
        """What a bare function is read as, if a layer does the same."""
        adapter = self.adapter
        known = adapter.function(raw) if adapter.is_operation(raw.layer) else None
        if known is None:
            return None
        translation, given = known
        arguments = {
            name: map_leaves(lambda leaf: _constant(adapter, leaf), value)
            for name, value in given.items()
        }
        function = Function(arguments, outputs)
        tensors = sum(adapter.is_symbolic(leaf) for leaf in leaves((raw.args, raw.kwargs)))
        # A size that is computed, such as that of a batch, goes beyond what a layer would be told.
        return translated(translation, function) if tensors == function.tensors else None

    def _binding(self, raw: RawNode, arguments: tuple[Any, Any]) -> tuple[Slot, ...] | None:
        """What a nested model is fed, or None if the call does more than feeding it tensors."""
        args, kwargs = arguments
        more = any(kwargs[name] is not None for name in kwargs if name != "mask")
        if len(args) != 1 or more or not self._comes_along(raw):
            return None
        fed = flat_inputs(self.adapter, raw.layer, args[0])
        if len(fed) != len(raw.layer.inputs) or not all(isinstance(slot, Slot) for slot in fed):
            return None
        return tuple(fed)

    def _comes_along(self, raw: RawNode) -> bool:
        """Whether a recorded mask is no more than what travels with the tensors anyway."""
        adapter = self.adapter
        masks = adapter.flatten(raw.kwargs.get("mask"))
        given = [id(mask) for mask in masks if mask is not None]
        travelling = {id(adapter.mask_of(tensor)) for tensor in adapter.flatten(list(raw.args))}
        return travelling.issuperset(given)


def readable(adapter: Adapter, model: Any, *, x: Any = None) -> Reading | None:
    """`model` read, and opened where it has no graph; None where it cannot be had as one."""
    try:
        return read(adapter, model, "reading", x=x)
    except UnsupportedModelError:
        return None


class _Names:
    """A name of its own for each layer of a graph."""

    def __init__(self) -> None:
        self._taken: dict[str, LayerKey] = {}

    def of(self, node: Node) -> str:
        name, number = node.name, 0
        while self._taken.setdefault(name, node.layer) != node.layer:
            number += 1
            name = f"{node.name}_{number}"
        return name


def read(
    adapter: Adapter, model: Any, operation: str, *, x: Any = None, open: str = "auto"
) -> Reading:
    """Read `model`, and open what has no graph of its own (`bnfix.adapters.opened`).

    Args:
        adapter: Of the model's Keras.
        model: The model.
        operation: Named in errors.
        x: Inputs that tell what a model without a graph takes, where it does not know.
        open: "never", "auto" or "all".
    """
    opening = Opening(adapter, open)
    if adapter.has_graph(model):
        return Reading(adapter, model, opening=opening)
    if not model.built or open == "never":
        raise UnsupportedModelError(_no_graph(adapter, model, operation))
    specs = adapter.input_signature(model) if x is None else _specs(adapter, x)
    if specs is None:
        raise UnsupportedModelError(
            f"{operation} needs to know what {model.name} ({type(model).__name__}) takes, and the "
            "model does not tell: pass inputs as x=."
        )
    functional = opening.whole(model, specs, operation)
    return Reading(adapter, model, functional=functional, opening=opening)


def _specs(adapter: Adapter, x: Any) -> Any:
    """What `x`, in any structure of arrays, would be fed to a model as."""

    def spec(leaf: Any) -> TensorSpec:
        found = adapter.tensor_spec(adapter.fed(leaf[:1]))
        return replace(found, shape=(None, *found.shape[1:]))

    return map_leaves(spec, x)


def flat_inputs(adapter: Adapter, model: Any, inputs: Any) -> list[Any]:
    """`inputs`, in any structure the model takes, in the order of `model.inputs`.

    A dict is matched by key or, where the model was not made with one, by the names of its inputs.
    """
    structure = model.input if not adapter.is_sequential(model) else model.inputs
    if isinstance(inputs, dict):
        if isinstance(structure, dict):
            if set(structure) - set(inputs):
                raise _other_keys(adapter, model, inputs)
            inputs = {key: inputs[key] for key in structure}
        elif set(adapter.input_names(model)) <= set(inputs):
            return [inputs[name] for name in adapter.input_names(model)]
        else:
            raise _other_keys(adapter, model, inputs)
    return adapter.flatten(inputs)


def _other_keys(adapter: Adapter, model: Any, inputs: dict[str, Any]) -> DataError:
    wanted = model.input if isinstance(model.input, dict) else adapter.input_names(model)
    return DataError(
        f"the inputs have the keys {sorted(inputs)}; {model.name} takes {sorted(wanted)}. Rename "
        "them."
    )


def _named(layer: Any, raw: RawNode) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments, with `training` and masks under their names where they came by position."""
    names = list(inspect.signature(layer.call).parameters)[: len(raw.args)]
    first = next((at for at, name in enumerate(names) if at and _says_how(name)), len(raw.args))
    named = dict(zip(names[first:], raw.args[first:], strict=False))
    return raw.args[:first], {**named, **raw.kwargs}


def _says_how(name: str) -> bool:
    return name == "training" or _is_mask(name)


def _constant(adapter: Adapter, leaf: Any) -> Any:
    """An argument of a function as plain data, as `Function` wants it."""
    if adapter.is_symbolic(leaf):
        return adapter.tensor_spec(leaf)
    if hasattr(leaf, "assign"):
        return UNKNOWN
    return adapter.to_numpy(leaf) if hasattr(leaf, "__array__") else leaf


def _is_mask(name: str) -> bool:
    return name == "mask" or name.endswith("_mask")


def _take_training(layer: Any, kwargs: dict[str, Any], adapter: Adapter) -> bool | None:
    """The value of `training`, taken out of `kwargs`, if it is a plain one."""
    training = kwargs.get("training")
    if training is not None and training == adapter.recorded_training(layer):
        training = None
    if isinstance(training, (bool, int)) or training is None:
        kwargs.pop("training", None)
        if isinstance(training, PassedOn):
            return None
        return None if training is None else bool(training)
    return None


def _trains_by_default(layer: Any, kwargs: dict[str, Any], adapter: Adapter) -> bool:
    """Whether nobody has given `training`, and the layer goes by its own default, which is True."""
    if adapter.default_training(layer) is not True:
        return False
    recorded, given = adapter.recorded_training(layer), kwargs.get("training")
    if given is None:  # which was given, where Keras would have noted down the default
        return recorded is None or "training" not in kwargs
    return isinstance(given, PassedOn) or given is recorded


def _no_graph(adapter: Adapter, model: Any, operation: str) -> str:
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
