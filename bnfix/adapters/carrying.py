"""Carry over what the layers of a model hold to the copies that were made of them.

Flags come first, since the order of weights depends on them, then values and states. In the end
what was one weight has to be one weight again.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from bnfix.adapters import replacing, weights
from bnfix.adapters.base import Adapter
from bnfix.adapters.reading import Reading
from bnfix.errors import UnsupportedModelError
from bnfix.graph.definition import Definitions, LayerKey
from bnfix.graph.edit import Edit


class Carrying:
    """From the layers of a model to their copies.

    Args:
        reading: The model that was copied.
        edit: What was changed.
        definitions: Of the models that were made.
        made: Copies by key.
        kept: Keys of layers that could not be copied and are themselves in the new model.
        fresh: Keys of replacements that were not built before.

    Attributes:
        opened: Keys of the layers that come as graphs now, the model itself first.
    """

    def __init__(
        self,
        reading: Reading,
        edit: Edit,
        definitions: Definitions,
        made: dict[LayerKey, Any],
        *,
        kept: set[LayerKey],
        fresh: set[LayerKey],
    ) -> None:
        self.reading, self.edit, self.definitions = reading, edit, definitions
        self.adapter: Adapter = reading.adapter
        self.made, self.kept, self.fresh = made, kept, fresh

    def run(self, model: Any) -> None:
        """Fill `model`, the copy of the model read.

        Raises:
            UnsupportedModelError: A copy has other weights, or two copies one weight each of what
                was one.
        """
        kept = [
            layer for key in self.kept if self.adapter.is_layer(layer := self.reading.layers[key])
        ]
        shared = [part for layer in kept for _, part in self.adapter.tree(layer)]
        flags = [(part, part.trainable) for part in shared]
        self._copy_flags(self.reading.model, model)
        for part, trainable in flags:  # Keras has handed those of the new model down to these, too
            part.trainable = trainable
        for key, layer in self.made.items():
            if key not in self.definitions and key not in self.kept:
                self._copy_values(key, self.reading.layers[key], layer)
        self._check_sharing()

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
        whole = new is not None and self.reading.key(old) not in self.opened
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
        """What `layer` remembers besides its weights: where random numbers and sequences go on."""
        weights = {id(weight) for weight in self.adapter.weights(layer)}
        own = (v for v in self.adapter.variables(layer) if id(v) not in weights)
        return [*own, *(state for _, state in self.adapter.carried(layer))]

    def _assign(self, theirs: list[Any], ours: list[Any]) -> None:
        for variable, source in zip(ours, theirs, strict=True):
            variable.assign(self.adapter.copy_value(source))  # as numbers: dtypes may differ

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

    @cached_property
    def opened(self) -> list[LayerKey]:
        """Keys of the layers that come as graphs now, the model itself first."""
        owners = self.reading.owners
        opened = [key for key in self.made if key in owners]
        return list(dict.fromkeys(owners[key] for key in sorted(opened)))


def _shapes(variables: list[Any]) -> list[tuple[int, ...]]:
    return [tuple(variable.shape) for variable in variables]


def _base_name(variable: Any) -> str:
    return variable.name.rpartition("/")[2].partition(":")[0]
