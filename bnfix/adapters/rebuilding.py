"""Carry out an `Edit` on a copy of a model; the model itself stays as it is.

Every layer is copied once, however often it is called, so sharing survives within and across nested
models. Values follow after the structure: flags first, since the order of weights depends on them.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bnfix.adapters import replacing, weights
from bnfix.adapters.base import Adapter
from bnfix.adapters.cloning import starting_plainly
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
        closing = closing and dtype is None and reading.opening.mode != "all"
        self.definitions = closed(reading.definitions, edit) if closing else reading.definitions
        self.made: dict[LayerKey, Any] = {}
        self.names: dict[LayerKey, Any] = {}  # what is left of bypassed layers that are outputs
        self.fresh: set[LayerKey] = set()  # replacements that were not built before
        self.unbound: dict[str, tuple[str, ...]] = {}  # what changed layers had for training only
        self.kept: set[LayerKey] = set()  # what cannot be made anew from its configuration
        self.inside: dict[int, Any] = {}  # copies of layers within others, by id of the original
        self.lost: list[str] = []

    def run(self) -> Rebuilt:
        model = self._model(self.definitions.top)
        self._copy_flags(self.reading.model, model)
        for key, layer in self.made.items():
            if key not in self.definitions and key not in self.kept:
                self._copy_values(key, self.reading.layers[key], layer)
        self._check_sharing()
        if self.dtype is None and (
            lost := self.adapter.copy_compilation(self.reading.model, model)
        ):
            self.lost.append(lost)
        self.lost += _said_of_opened([self.reading.layers[key] for key in self._opened])
        if self.unbound:
            what = ", ".join(
                dict.fromkeys(name for names in self.unbound.values() for name in names)
            )
            self.lost.append(
                f"dropped {what} of {', '.join(self.unbound)}: only training heeds such, and they "
                "were made for the weights before"
            )
        return Rebuilt(model, tuple(self.lost))

    @cached_property
    def _opened(self) -> list[LayerKey]:
        """Keys of the layers that come as graphs now, the model itself first."""
        owners = self.reading.owners
        opened = [key for key in self.made if key in owners]
        return list(dict.fromkeys(owners[key] for key in sorted(opened)))

    # --- structure ---------------------------------------------------------------------------

    def _model(self, definition: Definition) -> Any:
        old = self.reading.layers[definition.key]
        sequential = self.adapter.is_sequential(old)
        written = any(
            (definition.key, at) in self.edit.infer for at in range(len(definition.nodes))
        )
        build = self._sequential if sequential and not written else self._functional
        new, lost = build(definition, old)
        if sequential and written:
            lost = f"{old.name} is now a Functional model: a Sequential cannot say training=False"
        if lost:
            self.lost.append(lost)
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
                self._check_shape(node, self.made[node.layer].output)
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
        new, lost = self.adapter.new_functional(old, pack(taken, inputs), pack(given, outputs))
        loose = {definition.nodes[position].layer for position in definition.loose()}
        made = {id(self.reading.layers[key]): self.made[key] for key in loose}
        in_order = [made[id(child)] for child in self.adapter.children(old) if id(child) in made]
        self.adapter.attach(new, in_order)
        return new, lost

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
            self._check_shape(node, made)
            return self.adapter.flatten(made)
        with starting_plainly(self.adapter.keras, layer):
            return self.adapter.flatten(layer(*args, **kwargs))

    def _replaced_arguments(self, layer: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """What a layer takes that stands in place of another: no mask, which it may not know."""
        takes = "training" in kwargs and self.adapter.accepts_training(layer)
        kept = {"training": kwargs["training"]} if takes else {}
        return self.adapter.flatten(args[0] if args else kwargs)[:1], kept

    def _check_shape(self, node: Node, made: Any) -> None:
        """A replacement must leave the shape as it is, since what follows was made for that."""
        wanted, seen = node.outputs[0].shape, getattr(made, "shape", None)
        if seen is None or tuple(seen) != wanted:
            raise UnsupportedModelError(
                f"{node.name}: the layer in its place makes {made if seen is None else tuple(seen)}"
                f" of inputs of shape {wanted}; it has to keep the shape.",
                path=node.name,
            )

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
            self.lost.append(
                f"{old.name} ({type(old).__name__}) cannot be made anew, for want of a "
                "get_config(): it shares its weights with the model given, and who trains one "
                "trains the other"
            )
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

    def _check_sharing(self) -> None:
        """Refuse to make two weights of one: trained on, they would go different ways."""
        copies: dict[int, tuple[str, Any]] = {}
        for key, new in self.made.items():
            old = self.reading.layers[key]
            changed = key in self.edit.assign or key in self.edit.replace
            if changed or key in self.reading.definitions or not self.adapter.is_layer(old):
                continue
            theirs, ours = self.adapter.weights(old), self.adapter.weights(new)
            for source, variable in zip(theirs, ours, strict=True):
                first, copy = copies.setdefault(id(source), (old.name, variable))
                if copy is not variable:
                    raise UnsupportedModelError(
                        f"{first} and {old.name} ({type(old).__name__}) share weights, which their "
                        "configurations do not tell: a copy would have them twice. Let the layer "
                        "that takes them be called by the model itself.",
                        path=old.name,
                    )

    def _replacement(self, node: Node, old: Any) -> Any:
        wanted, rank = self.edit.replace[node.layer], len(node.outputs[0].shape)
        new = replacing.replacement(self.adapter.keras, old, wanted, rank, self.dtype)
        if not new.built:
            self.fresh.add(node.layer)
        self.adapter.rename(new, node.name)
        return new

    def _changes(self, key: LayerKey) -> dict[str, Any]:
        linear, old = self.edit.assign.get(key), self.reading.layers[key]
        changes: dict[str, Any] = {}
        if linear is not None:
            kind = type(old).__name__
            bound = weights.for_training(old, kind)
            if bound:
                self.unbound[old.name] = bound
            changes |= dict.fromkeys(bound)
            if linear.bias is not None:
                changes |= weights.bias_option(old, kind)
            changes = weights.changed_options(old, kind, changes)
        if self.dtype is not None and "float" in str(old.dtype):
            changes |= _in_dtype({**old.get_config(), **changes}, self.dtype)
        return changes

    # --- values ------------------------------------------------------------------------------

    def _copy_flags(self, old: Any, new: Any) -> None:
        """Set `trainable` from the outside in, because Keras hands it down to what is inside.

        `new` is None where code that was opened goes past `old` to what is inside of it.
        """
        if not self.adapter.is_layer(old) or self.reading.key(old) in self.kept:
            return
        if self.reading.key(old) in self.edit.replace:
            if new is not None:  # else every call of it was bypassed
                new.trainable = old.trainable and new.trainable
            return
        if new is not None:
            new.trainable = old.trainable
        children = self.adapter.children(old)
        known = [(child, self._copies.get(id(child))) for child in children]
        whole = new is not None and self.reading.key(old) not in self._opened
        if whole and all(copy is None for _, copy in known):
            known = list(zip(children, self.adapter.children(new), strict=True))
        for child, copy in known:
            self._copy_flags(child, copy)

    @cached_property
    def _copies(self) -> dict[int, Any]:
        """What has become of each layer, by id; of an opened one, its graph."""
        reading = self.reading
        keys = {key: reading.owners.get(key, key) for key in self.made}
        return {id(reading.layers[keys[key]]): layer for key, layer in self.made.items()}

    def _copy_values(self, key: LayerKey, old: Any, new: Any) -> None:
        if not self.adapter.is_layer(old):
            return
        if key in self.edit.replace:
            replacing.write(new, self.edit.replace[key], fresh=key in self.fresh)
            return
        if key in self.edit.assign:
            kept = {_base_name(variable): variable for variable in old.weights}
            for variable in new.weights:
                if _base_name(variable) in kept:
                    variable.assign(self.adapter.copy_value(kept[_base_name(variable)]))
            weights.write_linear(weights.inner(new, type(old).__name__), self.edit.assign[key])
            return
        theirs, ours = self.adapter.weights(old), self.adapter.weights(new)
        if _shapes(theirs) != _shapes(ours):
            raise UnsupportedModelError(
                f"layer {old.name!r} ({type(old).__name__}) has {len(theirs)} weights, its copy "
                "from "
                f"get_config() has {len(ours)} or other shapes. Let get_config() return everything "
                "that its constructor needs.",
                path=old.name,
            )
        self._assign(theirs, ours)
        states = [self._states(layer) for layer in (old, new)]
        if _shapes(states[0]) == _shapes(states[1]):  # dropout set to 0 later needs no lots
            self._assign(*states)
        self.adapter.copy_state(old, new)

    def _states(self, layer: Any) -> list[Any]:
        """What `layer` remembers besides its weights: where random numbers go on, and the like."""
        weights = {id(weight) for weight in self.adapter.weights(layer)}
        return [v for v in self.adapter.variables(layer) if id(v) not in weights]

    def _assign(self, theirs: list[Any], ours: list[Any]) -> None:
        for variable, source in zip(ours, theirs, strict=True):
            variable.assign(self.adapter.copy_value(source))  # as numbers: dtypes may differ


def _said_of_opened(layers: list[Any]) -> list[str]:
    """What is lost with the classes of `layers`."""
    if not layers:
        return []
    named = [f"{layer.name} ({type(layer).__name__})" for layer in layers]
    more = f" and {len(named) - _LISTED} more" if len(named) > _LISTED else ""
    verb = "is a Functional model" if len(named) == 1 else "are Functional models"
    return [
        f"opened: {', '.join(named[:_LISTED])}{more} {verb} now, as their code runs in inference; "
        "methods of their classes, such as a train_step, are gone"
    ]


#: Layers that a note names.
_LISTED = 3


def _shapes(variables: list[Any]) -> list[tuple[int, ...]]:
    return [tuple(variable.shape) for variable in variables]


def _in_dtype(config: dict[str, Any], dtype: str) -> dict[str, Any]:
    """What to change in the configuration of a layer and those wrapped in it to be in `dtype`."""
    changes: dict[str, Any] = {"dtype": dtype}
    for name, part in config.items():
        inner = part.get("config") if isinstance(part, dict) and name != "dtype" else None
        if isinstance(inner, dict) and "dtype" in inner:
            changes[name] = {**part, "config": {**inner, **_in_dtype(inner, dtype)}}
    return changes


def _base_name(variable: Any) -> str:
    return variable.name.rpartition("/")[2].partition(":")[0]
