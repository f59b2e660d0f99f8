"""Carry out an `Edit` on a copy of a model; the model itself stays as it is.

Every layer is copied once, however often it is called, so sharing survives within and across nested
models. What the layers hold follows after the structure (`bnfix.adapters.carrying`).
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bnfix.adapters import lost, replacing, weights
from bnfix.adapters.base import Adapter
from bnfix.adapters.carrying import Carrying
from bnfix.adapters.cloning import starting_plainly
from bnfix.adapters.configuring import changes
from bnfix.adapters.reading import Reading
from bnfix.errors import UnsupportedModelError
from bnfix.graph.closing import closed
from bnfix.graph.definition import Definition, LayerKey, Node, Slot
from bnfix.graph.edit import Edit
from bnfix.tree import map_leaves


@dataclass(frozen=True)
class Rebuilt:
    """A new model, and one sentence for everything that could not be kept."""

    model: Any
    lost: tuple[str, ...]


def rebuild(
    reading: Reading, edit: Edit, *, dtype: str | None = None, closing: bool = True
) -> Rebuilt:
    """A new model that differs from the one read by `edit` only.

    Args:
        reading: The model, read.
        edit: What is to be changed.
        dtype: In which all floating-point layers and inputs are made; nothing is compiled then, and
            nothing closed.
        closing: Whether layers that were opened and are not changed are closed again, unless all
            were to be opened.
    """
    with _deep(sum(len(each.nodes) for each in reading.definitions)):
        return _Rebuilding(reading, edit, dtype, closing=closing).run()


@contextmanager
def _deep(nodes: int) -> Generator[None]:
    """Room for Keras, which walks a new graph from its outputs back by recursion.

    A frame a node is what it takes; whoever made a deeper graph than Python's limit allows has
    raised the limit at that time only.
    """
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _FRAMES_OF_KERAS + 2 * nodes))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


#: What is on the stack before the walk begins, with room to spare.
_FRAMES_OF_KERAS = 1000


class _Rebuilding:
    def __init__(self, reading: Reading, edit: Edit, dtype: str | None, *, closing: bool) -> None:
        self.reading = reading
        self.adapter: Adapter = reading.adapter
        self.edit = edit
        self.dtype = dtype
        self.definitions = reading.definitions
        if closing and dtype is None and reading.opening.mode != "all":
            self.definitions = closed(reading.definitions, edit, self._can_be_copied)
        self.made: dict[LayerKey, Any] = {}
        self.names: dict[LayerKey, Any] = {}  # what is left of bypassed layers that are outputs
        self.fresh: set[LayerKey] = set()  # replacements that were not built before
        self.unbound: dict[str, tuple[str, ...]] = {}  # what changed layers had for training only
        self.kept: set[LayerKey] = set()  # what cannot be made anew from its configuration
        self.inside: dict[int, Any] = {}  # copies of layers within others, by id of the original
        self.lost: list[str] = []

    def _can_be_copied(self, layer: LayerKey) -> bool:
        return self.reading.opening.can_be_copied(self.reading.layers[layer])

    def run(self) -> Rebuilt:
        model = self._model(self.definitions.top)
        carrying = Carrying(
            self.reading, self.edit, self.definitions, self.made, kept=self.kept, fresh=self.fresh
        )
        carrying.run(model)
        if self.dtype is None and (
            said := self.adapter.copy_compilation(self.reading.model, model)
        ):
            self.lost.append(said)
        self.lost += lost.of_opened([self.reading.layers[key] for key in carrying.opened])
        self.lost += lost.of_bounds(self.unbound)
        return Rebuilt(model, tuple(self.lost))

    # --- structure ---------------------------------------------------------------------------

    def _model(self, definition: Definition) -> Any:
        old = self.reading.layers[definition.key]
        sequential = self.adapter.is_sequential(old)
        written = any(
            (definition.key, at) in self.edit.infer for at in range(len(definition.nodes))
        )
        build = self._sequential if sequential and not written else self._functional
        new, said = build(definition, old)
        if sequential and written:
            said = f"{old.name} is now a Functional model: a Sequential cannot say training=False"
        if said:
            self.lost.append(said)
        self.made[definition.key] = self.inside[id(old)] = new
        return new

    def _sequential(self, definition: Definition, old: Any) -> tuple[Any, str | None]:
        last = len(definition.nodes) - 1
        nodes: list[Node] = []
        layers: list[Any] = []
        for position, node in enumerate(definition.nodes):
            if (definition.key, position) not in self.edit.bypass:
                nodes.append(node)
                layers.append(self._layer(node))
            elif position == last:
                layers.append(self._name_left(node))
        made = self.adapter.new_sequential(old, layers)
        for node in nodes:
            if node.layer in self.edit.replace:
                replacing.check_shape(node, self.made[node.layer].output)
        return made

    def _functional(self, definition: Definition, old: Any) -> tuple[Any, str | None]:
        tensors: dict[Slot, Any] = {}
        alive = self._alive(definition)
        for position, node in enumerate(definition.nodes):
            if position not in alive:
                continue
            for output, tensor in enumerate(self._outputs(definition, position, node, tensors)):
                tensors[Slot(position, output)] = tensor
        inputs = [tensors[slot] for slot in definition.inputs]
        returned = {slot: self._output(definition, slot, tensors) for slot in definition.outputs}
        outputs = [returned[slot] for slot in definition.outputs]
        pack, sequential = self.adapter.pack, self.adapter.is_sequential(old)
        # A Sequential that nobody has called has no input of its own in Keras 3.
        taken, given = (old.inputs[0], old.outputs[0]) if sequential else (old.input, old.output)
        new, said = self.adapter.new_functional(old, pack(taken, inputs), pack(given, outputs))
        loose = {definition.nodes[position].layer for position in definition.loose()}
        made = {id(self.reading.layers[key]): self.made[key] for key in loose}
        in_order = [made[id(child)] for child in self.adapter.children(old) if id(child) in made]
        self.adapter.attach(new, in_order)
        return new, said

    def _alive(self, definition: Definition) -> set[int]:
        """Positions of the nodes that are there for more than an addend which is dropped."""
        alive = {slot.node for slot in (*definition.inputs, *definition.outputs)}
        alive.update(definition.loose())
        for position in range(len(definition.nodes) - 1, -1, -1):
            if position in alive:
                reads = definition.nodes[position].reads()
                gone = self.edit.drop.get((definition.key, position), frozenset())
                alive.update(slot.node for at, slot in enumerate(reads) if at not in gone)
        return alive

    def _hands_on(self, definition: Definition, position: int) -> bool:
        """Whether a node leaves nothing behind than what one of its inputs is."""
        at = definition.key, position
        left = len(definition.nodes[position].reads()) - len(self.edit.drop.get(at, ()))
        return at in self.edit.bypass or (at in self.edit.drop and left == 1)

    def _outputs(
        self, definition: Definition, position: int, node: Node, tensors: dict[Slot, Any]
    ) -> list[Any]:
        layer = None
        if node.kind == "InputLayer":
            return self.adapter.flatten(self._layer(node).output)
        at = (definition.key, position)
        if at in self.edit.drop:
            gone = self.edit.drop[at]
            left = [tensors[slot] for place, slot in enumerate(node.reads()) if place not in gone]
            return left if len(left) == 1 else self.adapter.flatten(self._layer(node)(left))
        args, kwargs = map_leaves(
            lambda leaf: tensors[leaf] if isinstance(leaf, Slot) else leaf, node.arguments
        )
        if at in self.edit.bypass:
            return [self.adapter.flatten(args[0] if args else kwargs)[0]]
        training = False if at in self.edit.infer else node.training
        if training is not None and at not in self.edit.untrain:
            kwargs = {**kwargs, "training": training}
        layer = self._layer(node)
        if node.layer in self.edit.replace:
            given, options = self._replaced_arguments(layer, args, kwargs)
            made = layer(*given, **options)
            replacing.check_shape(node, made)
            return self.adapter.flatten(made)
        with starting_plainly(self.adapter.keras, layer):
            return self.adapter.flatten(layer(*args, **kwargs))

    def _replaced_arguments(self, layer: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """What a layer takes that stands in place of another: no mask, which it may not know."""
        takes = "training" in kwargs and self.adapter.accepts_training(layer)
        kept = {"training": kwargs["training"]} if takes else {}
        return self.adapter.flatten(args[0] if args else kwargs)[:1], kept

    def _output(self, definition: Definition, slot: Slot, tensors: dict[Slot, Any]) -> Any:
        """The tensor to return; a bypassed layer that gave an output its name leaves it behind."""
        tensor = tensors[slot]
        inside = definition.key in self.reading.owners and definition is not self.definitions.top
        if self._hands_on(definition, slot.node) and not inside:
            tensor = self._name_left(definition.nodes[slot.node])(tensor)
        return tensor

    def _name_left(self, node: Node) -> Any:
        """What is left of a bypassed layer that gave an output its name."""
        if node.layer not in self.names:
            dtype = self.dtype or self.reading.layers[node.layer].dtype_policy
            keep = self.adapter.keras.layers.Activation("linear", name=node.name, dtype=dtype)
            self.names[node.layer] = keep
        return self.names[node.layer]

    def _layer(self, node: Node) -> Any:
        """The copy of a node's layer, made when first needed."""
        if node.layer not in self.made:
            old = self.reading.layers[node.layer]
            if node.layer in self.definitions:
                made = self._model(self.definitions[node.layer])
                if node.name != made.name:
                    self.adapter.rename(made, node.name)
            elif node.layer in self.edit.replace:
                self.made[node.layer] = self._replacement(node, old)
            elif self.adapter.is_operation(old):
                self.made[node.layer] = self.adapter.copy_operation(old)
            else:
                self.made[node.layer] = self._copy(node.layer, old)
                if node.name != old.name:
                    self.adapter.rename(self.made[node.layer], node.name)
        return self.made[node.layer]

    def _copy(self, key: LayerKey, old: Any) -> Any:
        """A new layer configured like `old`, which is one with the copies that share parts with it.

        One whose class does not tell how to make it is kept, if nothing in it is to be changed.
        """
        if id(old) in self.inside:
            return self.inside[id(old)]
        try:
            new = self.adapter.clone_layer(old, self._changes(key))
        except UnsupportedModelError:
            if key in self.edit.assign or self.dtype is not None:
                raise
            return self._keep(key, old)
        self._join(old, new)
        return new

    def _keep(self, key: LayerKey, old: Any) -> Any:
        self.kept.add(key)
        new, shared = self.adapter.without_copying(old)
        if shared:
            self.lost.append(lost.of_kept(old))
        return new

    def _join(self, old: Any, new: Any) -> None:
        """Let `new` hold the copies that there are of what `old` holds, and note its own."""
        self.inside[id(old)] = new
        theirs, ours = self.adapter.children(old), self.adapter.children(new)
        if [type(one) for one in theirs] != [type(one) for one in ours]:
            return
        for child, copy in zip(theirs, ours, strict=True):
            key = self.reading.key(child)
            if id(child) not in self.inside and key is not None and key in self.reading.definitions:
                self._model(self.reading.definitions[key])
            if id(child) in self.inside:
                self.adapter.put_in(new, copy, self.inside[id(child)])
            else:
                self._join(child, copy)

    def _replacement(self, node: Node, old: Any) -> Any:
        wanted, rank = self.edit.replace[node.layer], len(node.outputs[0].shape)
        new = replacing.replacement(self.adapter.keras, old, wanted, rank, self.dtype)
        if not new.built:
            self.fresh.add(node.layer)
        self.adapter.rename(new, node.name)
        return new

    def _changes(self, key: LayerKey) -> dict[str, Any]:
        linear, old = self.edit.assign.get(key), self.reading.layers[key]
        if linear is not None and (bound := weights.for_training(old, type(old).__name__)):
            self.unbound[old.name] = bound
        return changes(old, linear, self.dtype)
