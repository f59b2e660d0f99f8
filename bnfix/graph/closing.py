"""Close again what was opened to be read, where nothing in it is to be changed.

A layer that stays as it is keeps its class and its configuration. What shares a layer with
something outside has to stay open, since a copy from its configuration would hold a layer of its
own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from bnfix.graph.definition import Definition, Definitions, LayerKey, Node
from bnfix.graph.edit import Edit


def closed(
    definitions: Definitions, edit: Edit, can_be_copied: Callable[[LayerKey], bool]
) -> Definitions:
    """`definitions` with every opened layer closed that `edit` does not need open.

    Args:
        definitions: Of all models.
        edit: What is to be changed in them.
        can_be_copied: Whether a layer, closed, can be had again from its configuration.
    """
    opened = {
        node.layer: node.closed[0]
        for each in definitions
        for node in each.nodes
        if node.closed is not None
    }
    stays = {
        key
        for key, layer in opened.items()
        if _changed(definitions, key, edit) or _shares(definitions, key) or not can_be_copied(layer)
    }

    def close(node: Node) -> Node:
        if node.closed is None or node.layer in stays:
            return node
        layer, arguments = node.closed
        return replace(node, layer=layer, arguments=arguments, binding=None, closed=None)

    return _mapped(definitions, close)


def _mapped(definitions: Definitions, change: Callable[[Node], Node]) -> Definitions:
    def mapped(definition: Definition) -> Definition:
        return replace(definition, nodes=tuple(change(node) for node in definition.nodes))

    nested = {key: mapped(definition) for key, definition in definitions.nested.items()}
    return Definitions(mapped(definitions.top), nested)


def _changed(definitions: Definitions, key: LayerKey, edit: Edit) -> bool:
    """Whether `edit` changes anything in the model `key`, at any depth."""
    for inside in _within(definitions, key):
        for position, node in enumerate(definitions[inside].nodes):
            at = (inside, position)
            if at in edit.bypass or at in edit.untrain or at in edit.infer:
                return True
            if node.layer in edit.assign or node.layer in edit.replace:
                return True
    return False


def _shares(definitions: Definitions, key: LayerKey) -> bool:
    """Whether a layer in the model `key` is called from outside of it as well."""
    within = set(_within(definitions, key))
    ours = {node.layer for inside in within for node in definitions[inside].nodes}
    theirs = {
        node.layer
        for each in definitions
        if each.key not in within
        for node in each.nodes
        if node.layer != key
    }
    return not ours.isdisjoint(theirs)


def _within(definitions: Definitions, key: LayerKey) -> Iterator[LayerKey]:
    """The model `key` and all that are called in it."""
    yield key
    for node in definitions[key].nodes:
        if node.binding is not None:
            yield from _within(definitions, node.layer)
