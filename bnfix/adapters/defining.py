"""From the calls that Keras has recorded of a model to plain data, nested models included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from bnfix.adapters.base import Adapter
from bnfix.adapters.models import RawNode
from bnfix.adapters.opened import Opening, is_mask, named
from bnfix.adapters.operators import UNKNOWN, Function, Operator, translated
from bnfix.adapters.tracing import PassedOn
from bnfix.errors import DataError
from bnfix.graph.definition import Definition, Definitions, LayerKey, Node, Slot, TensorSpec
from bnfix.tree import leaves, map_leaves


class Defining:
    """Gives keys to layers, and definitions to the models among them.

    Attributes:
        adapter: Of the model's Keras.
        opening: What is opened on the way.
        layers: Keras objects by key; of an opened layer, the graph of what it does.
        owners: By key of such a graph, that of the layer itself.
        keys: By id of a Keras object.
    """

    def __init__(self, adapter: Adapter, opening: Opening) -> None:
        self.adapter, self.opening = adapter, opening
        self.layers: dict[LayerKey, Any] = {}
        self.owners: dict[LayerKey, LayerKey] = {}
        self.keys: dict[int, LayerKey] = {}

    def run(self, model: Any, functional: Any) -> Definitions:
        """Of `model`, whose code amounts to the graph `functional`, if it is none itself."""
        if functional is not model:
            self.owners[self._key(functional)] = self._key(model)
        nested: dict[LayerKey, Definition] = {}
        top = self._define(functional, nested)
        return Definitions(top, nested)

    def _key(self, layer: Any) -> LayerKey:
        key = self.keys.setdefault(id(layer), len(self.keys))
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
        passed_on = isinstance(kwargs.get("training"), PassedOn)
        if not adapter.is_operation(layer):
            args, kwargs = named(layer, args, kwargs)
            by_default = _trains_by_default(layer, kwargs, adapter)
            training = _take_training(layer, kwargs, adapter)
            masks = frozenset(name for name in kwargs if is_mask(name))
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
            closed = owner, arguments
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
            passed_on=passed_on,
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


def flat_inputs(adapter: Adapter, model: Any, inputs: Any) -> list[Any]:
    """`inputs`, in any structure the model takes, in the order of `model.inputs`.

    A dict is matched by key or, where the model was not made with one, by the names of its inputs.
    """
    structure = model.input if not adapter.is_sequential(model) else model.inputs
    if isinstance(inputs, dict):
        if isinstance(structure, dict):
            if set(structure) - set(inputs):
                raise _other_keys(model, inputs, structure)
            inputs = {key: inputs[key] for key in structure}
        elif set(names := adapter.input_names(model)) <= set(inputs):
            return [inputs[name] for name in names]
        else:
            raise _other_keys(model, inputs, names)
    return adapter.flatten(inputs)


def _other_keys(model: Any, inputs: Mapping[Any, Any], wanted: Iterable[str]) -> DataError:
    seen = sorted(inputs, key=str)  # whatever the keys are
    return DataError(
        f"the inputs have the keys {seen}; {model.name} takes {sorted(wanted)}. Rename them."
    )


def _constant(adapter: Adapter, leaf: Any) -> Any:
    """An argument of a function as plain data, as `Function` wants it."""
    if adapter.is_symbolic(leaf):
        return adapter.tensor_spec(leaf)
    if hasattr(leaf, "assign"):
        return UNKNOWN
    return adapter.to_numpy(leaf) if hasattr(leaf, "__array__") else leaf


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
