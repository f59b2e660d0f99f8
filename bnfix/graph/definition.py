"""One Functional or Sequential model as it was defined: its own calls, once each.

A nested model is a single node here, however many calls it holds and however often it is called;
`bnfix.graph.graph` unfolds definitions into the calls that really happen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bnfix.tree import leaves

#: Identifies a layer (or nested model, or operation) within one reading of a model.
LayerKey = int
#: A node of a definition: (key of the model, position among its nodes).
NodeKey = tuple[LayerKey, int]


@dataclass(frozen=True)
class Slot:
    """Stands in a node's arguments for the `output`-th tensor made by the `node`-th node."""

    node: int
    output: int


@dataclass(frozen=True)
class TensorSpec:
    """Shape (batch first, None where unknown) and dtype of a symbolic tensor."""

    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Node:
    """One call of a layer within the model that defines it.

    Attributes:
        layer: Key of the called layer; equal keys mean the same, shared layer.
        name: The layer's name.
        kind: Class name where the class is Keras's own; for a bare function on tensors that of the
            layer which does the same, or "Operation"; "Custom" for everything else.
        arguments: `(args, kwargs)` as written, tensors replaced by `Slot`s, `training` left out.
        training: The `training=` written into this very call, or None.
        outputs: One per tensor that the call returns.
        binding: For a nested model that is unfolded, the slots fed to its inputs, in their order.
        accepts_training: Whether the layer's `call` has a `training` argument.
        trains_by_default: Whether nothing is written there and the layer's own default is
            training=True, as that of random augmentation is.
        kept_calm: Whether training=False is written there against such a default.
        passed_on: Whether code hands on the `training=` that it is called with.
        masked: Whether a mask travels with one of the tensors that it reads.
        masks: Names of the arguments that take a mask.
        options: Where `kind` is that of a layer which a bare function stands for, the options that
            this layer would have.
        closed: For an opened layer, its own key and arguments; `layer` and `arguments` are those of
            the graph that it was opened to. None if it cannot be copied as it is.
    """

    layer: LayerKey
    name: str
    kind: str
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    training: bool | None
    outputs: tuple[TensorSpec, ...]
    binding: tuple[Slot, ...] | None = None
    accepts_training: bool = False
    trains_by_default: bool = False
    kept_calm: bool = False
    passed_on: bool = False
    masked: bool = False
    masks: frozenset[str] = frozenset()
    options: Mapping[str, Any] | None = None
    closed: tuple[LayerKey, Any] | None = None

    def reads(self) -> list[Slot]:
        """The slots that the call reads, masks included, in order."""
        return [leaf for leaf in leaves(self.arguments) if isinstance(leaf, Slot)]


@dataclass(frozen=True)
class Definition:
    """A model's own nodes in topological order.

    Attributes:
        key: The model's layer key.
        name: The model's name.
        nodes: Inputs included (`kind` "InputLayer").
        inputs: Slots of the model's inputs, flat.
        outputs: Slots of the model's outputs, flat.
    """

    key: LayerKey
    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]

    def loose(self) -> list[int]:
        """Positions of nodes on which no output depends: losses and metrics of inner tensors."""
        needed = {slot.node for slot in (*self.inputs, *self.outputs)}
        for position in range(len(self.nodes) - 1, -1, -1):
            if position in needed:
                needed.update(slot.node for slot in self.nodes[position].reads())
        return [position for position in range(len(self.nodes)) if position not in needed]


@dataclass(frozen=True)
class Definitions:
    """A model and all models nested in it, each once."""

    top: Definition
    nested: dict[LayerKey, Definition] = field(default_factory=dict[LayerKey, Definition])

    def __getitem__(self, key: LayerKey) -> Definition:
        return self.top if key == self.top.key else self.nested[key]

    def __contains__(self, key: LayerKey) -> bool:
        return key == self.top.key or key in self.nested

    def __iter__(self) -> Iterator[Definition]:
        yield self.top
        yield from self.nested.values()

    def written(self) -> Iterator[tuple[NodeKey, str, Node]]:
        """Every node once, with the path at which it is met first, in order."""
        yield from self._written(self.top, "", set())

    def _written(
        self, definition: Definition, prefix: str, seen: set[LayerKey]
    ) -> Iterator[tuple[NodeKey, str, Node]]:
        seen.add(definition.key)
        for position, node in enumerate(definition.nodes):
            yield (definition.key, position), prefix + node.name, node
            if node.binding is not None and node.layer not in seen:
                yield from self._written(self[node.layer], f"{prefix}{node.name}/", seen)
