"""The calls of a model in the order in which they run, nested models unfolded.

`Graph` is the view that passes and users read: every call with its full path, who produces what it
reads, who reads what it produces, which calls share a layer, and what the model returns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bnfix.graph.definition import Definition, Definitions, LayerKey, Node, NodeKey, Slot
from bnfix.outcomes import LayerRecord
from bnfix.tree import leaves, map_leaves


@dataclass(frozen=True)
class Value:
    """A tensor that flows through the model: the `output`-th result of the `call`-th call.

    Attributes:
        shape: With the batch first; None where unknown.
        dtype: Keras's name for it ("float32").
    """

    call: int
    output: int
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Call:
    """One layer applied once.

    Attributes:
        index: Position in the order of execution.
        path: Names from the outermost nested model down, joined by "/"; the top model's is left
            out.
        name: The layer's own name.
        kind: Keras's class name; for a bare function on tensors that of the layer which does the
            same, or "Operation"; "Custom" otherwise.
        layer: Key shared by all calls of one layer.
        node: Where the call is written; a nested model called twice yields two calls of one node.
        arguments: `(args, kwargs)` as written, tensors replaced by `Value`s, `training` left out.
        inputs: The `Value`s among the arguments that hold data.
        masks: Those that hold masks, which say which of the data count.
        options: Of the layer that a bare function stands for; None for layers themselves.
        outputs: What the call returns, flat.
        training: The `training=` that applies, written here or at a surrounding nested model; None
            where the caller of the model decides.
        accepts_training: Whether the layer's `call` has a `training` argument.
        trains_by_default: Whether the caller of the model decides, and where the caller does not,
            the layer's own default is training=True.
        masked: Whether a mask travels with one of the tensors that it reads.
    """

    index: int
    path: str
    name: str
    kind: str
    layer: LayerKey
    node: NodeKey
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    training: bool | None
    accepts_training: bool
    masked: bool
    masks: tuple[Value, ...] = ()
    trains_by_default: bool = False
    options: Mapping[str, Any] | None = None

    @property
    def reads(self) -> tuple[Value, ...]:
        """All that must be there before the call: data and masks."""
        return (*self.inputs, *self.masks)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.path!r} at {self.index}>"


@dataclass(frozen=True)
class Graph:
    """All calls of a model, in topological order.

    Attributes:
        calls: Inputs included, as calls of kind "InputLayer"; the input of a nested model is such a
            call too and reads the tensor that the model was called on.
        inputs: What the model takes, flat.
        outputs: What the model returns, flat.
        unread: What a nested model returns and no call around it takes: whoever calls the nested
            model by itself gets it.
    """

    calls: tuple[Call, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    unread: frozenset[Value] = frozenset()

    def __iter__(self) -> Iterator[Call]:
        return iter(self.calls)

    def __len__(self) -> int:
        return len(self.calls)

    def of_kind(self, *kinds: str) -> list[Call]:
        """The calls of the given kinds, in order."""
        return [call for call in self.calls if call.kind in kinds]

    def producer(self, value: Value) -> Call:
        """The call that makes `value`."""
        return self.calls[value.call]

    def consumers(self, value: Value) -> tuple[Call, ...]:
        """The calls that read `value`, each once, in order."""
        return self._consumers.get((value.call, value.output), ())

    def is_output(self, value: Value) -> bool:
        """Whether the model returns `value`."""
        return (value.call, value.output) in self._returned

    def sharing(self, call: Call) -> tuple[Call, ...]:
        """All calls of the layer that `call` calls, itself included, in order."""
        return self._by_layer[call.layer]

    def records(self) -> tuple[LayerRecord, ...]:
        """Path and class of every call, in order, for a report."""
        return tuple(LayerRecord(call.path, call.kind) for call in self.calls)

    @cached_property
    def _consumers(self) -> dict[tuple[int, int], tuple[Call, ...]]:
        found: dict[tuple[int, int], dict[int, Call]] = defaultdict(dict)
        for call in self.calls:
            for value in call.reads:
                found[value.call, value.output][call.index] = call
        return {key: tuple(calls.values()) for key, calls in found.items()}

    @cached_property
    def _returned(self) -> frozenset[tuple[int, int]]:
        return frozenset((value.call, value.output) for value in self.outputs)

    @cached_property
    def _by_layer(self) -> dict[LayerKey, tuple[Call, ...]]:
        found: dict[LayerKey, list[Call]] = defaultdict(list)
        for call in self.calls:
            found[call.layer].append(call)
        return {key: tuple(calls) for key, calls in found.items()}


def unfold(definitions: Definitions) -> Graph:
    """The calls that happen when the model runs."""
    unfolding = _Unfolding(definitions)
    outputs = unfolding.run(definitions.top, _Surroundings())
    calls = unfolding.calls
    inputs = [calls[slot.node].outputs[slot.output] for slot in _input_slots(definitions, calls)]
    return Graph(tuple(calls), tuple(inputs), outputs, frozenset(unfolding.unread))


@dataclass(frozen=True)
class _Surroundings:
    """What a nested model inherits from where it is called.

    Attributes:
        prefix: Of the paths of its calls.
        fed: What its inputs are given; None for the model itself.
        training: The `training=` that applies where none is written.
        masked: Whether a mask comes along, to any of its layers for all that is known.
    """

    prefix: str = ""
    fed: tuple[Value, ...] | None = None
    training: bool | None = None
    masked: bool = False


class _Unfolding:
    """Appends to `calls` what happens, and to `unread` what nested models return to nobody."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self.calls: list[Call] = []
        self.unread: set[Value] = set()

    def run(self, definition: Definition, around: _Surroundings) -> tuple[Value, ...]:
        """Append the calls of `definition`; what it returns."""
        values: dict[Slot, Value] = {}
        fed = around.fed
        entering = {} if fed is None else dict(zip(definition.inputs, fed, strict=True))
        taken = {*definition.outputs, *(s for node in definition.nodes for s in node.reads())}
        for position, node in enumerate(definition.nodes):
            if node.binding is not None:
                made = self._nested(node, values, around)
                self.unread.update(
                    value
                    for output, value in enumerate(made)
                    if Slot(position, output) not in taken
                )
            else:
                arguments = map_leaves(
                    lambda leaf: values[leaf] if isinstance(leaf, Slot) else leaf, node.arguments
                )
                if node.kind == "InputLayer":
                    reads = entering.get(Slot(position, 0))
                    arguments = ((), {}) if reads is None else ((reads,), {})
                made = self._call(node, (definition.key, position), arguments, around)
            for output, value in enumerate(made):
                values[Slot(position, output)] = value
        return tuple(values[slot] for slot in definition.outputs)

    def _nested(
        self, node: Node, values: dict[Slot, Value], around: _Surroundings
    ) -> tuple[Value, ...]:
        inside = _Surroundings(
            prefix=f"{around.prefix}{node.name}/",
            fed=tuple(values[slot] for slot in node.binding or ()),
            training=_applying(node, around),
            masked=around.masked or node.masked,
        )
        return self.run(self.definitions[node.layer], inside)

    def _call(
        self, node: Node, at: NodeKey, arguments: tuple[Any, Any], around: _Surroundings
    ) -> tuple[Value, ...]:
        index = len(self.calls)
        made = tuple(
            Value(index, output, spec.shape, spec.dtype) for output, spec in enumerate(node.outputs)
        )
        args, kwargs = arguments
        masks = {name: kwargs[name] for name in kwargs if name in node.masks}
        data = {name: kwargs[name] for name in kwargs if name not in masks}
        call = Call(
            index=index,
            path=around.prefix + node.name,
            name=node.name,
            kind=node.kind,
            layer=node.layer,
            node=at,
            arguments=arguments,
            inputs=_values_in((args, data)),
            outputs=made,
            training=_applying(node, around),
            accepts_training=node.accepts_training,
            masked=around.masked or node.masked,
            masks=_values_in(masks),
            trains_by_default=node.trains_by_default and around.training is None,
            options=node.options,
        )
        self.calls.append(call)
        return made


def _applying(node: Node, around: _Surroundings) -> bool | None:
    """The innermost explicit `training=`; both Kerases agree where the caller gave none."""
    return node.training if node.training is not None else around.training


def _values_in(arguments: Any) -> tuple[Value, ...]:
    return tuple(leaf for leaf in leaves(arguments) if isinstance(leaf, Value))


def _input_slots(definitions: Definitions, calls: list[Call]) -> list[Slot]:
    """Where in `calls` the top model's inputs are made."""
    at = {call.node: call.index for call in calls if call.node[0] == definitions.top.key}
    return [Slot(at[definitions.top.key, slot.node], 0) for slot in definitions.top.inputs]
