"""Where is `training=` written, and where does Keras 3 overrule it?"""

from __future__ import annotations

from bnfix.adapters.reading import Reading
from bnfix.graph.definition import LayerKey, NodeKey


def baked(reading: Reading) -> frozenset[NodeKey]:
    """The calls into which a `training=` is written, but for one that only keeps a layer calm."""
    return frozenset(
        key
        for key, _, node in reading.definitions.written()
        if node.training is not None and not node.kept_calm
    )


def overruled(reading: Reading) -> frozenset[NodeKey]:
    """Of `baked`, the calls that the model itself runs in inference mode when it is asked to.

    Keras 3 overrules what is written into the graph of a model, and not what stands in code. A
    graph that code calls is asked where the code hands that on, else it goes by what ran before it.
    """
    if not reading.adapter.predict_overrules_training:
        return frozenset()
    seen: set[LayerKey] = set()

    def visit(key: LayerKey) -> None:
        seen.add(key)
        for node in reading.definitions[key].nodes:
            asked = node.passed_on or key not in reading.owners or node.layer in reading.owners
            if node.binding is not None and asked and node.layer not in seen:
                visit(node.layer)

    visit(reading.definitions.top.key)
    return frozenset(key for key in baked(reading) if key[0] in seen - set(reading.owners))
