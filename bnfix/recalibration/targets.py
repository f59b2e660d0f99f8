"""Which BatchNormalizations are to be re-estimated, and can the graph show all of them?"""

from __future__ import annotations

from typing import Any

from bnfix.adapters.reading import Reading
from bnfix.adapters.subject import Subject
from bnfix.errors import UnsupportedModelError
from bnfix.graph.definition import LayerKey
from bnfix.graph.select import Selection, select


def targets(subject: Subject, layers: Selection, *, include_frozen: bool) -> dict[str, Any]:
    """Full path and layer of every BatchNormalization to re-estimate, in the model's order.

    Raises:
        UnsupportedModelError: The model is not built, or has no BatchNormalization.
        OptionError: `layers` names a path without BatchNormalization.
    """
    adapter, model = subject
    if not model.built:
        raise UnsupportedModelError(
            f"recalibrate needs a built model; {model.name} ({type(model).__name__}) has never "
            "seen an input shape. Call it once on a batch, or give it an Input."
        )
    found = dict(adapter.batch_norms(model))
    if not found:
        elsewhere = "bnfix.check tells whether anything else makes it depend on the batch"
        raise UnsupportedModelError(
            f"{model.name} has no BatchNormalization, so there is nothing to recalibrate. "
            f"{next(iter(adapter.out_of_reach(model)), elsewhere)}."
        )
    wanted = select(layers, found, what="BatchNormalization")
    return {
        path: layer
        for path, layer in found.items()
        if path in wanted and (include_frozen or layer.trainable) and layer.built
    }


def never_built(subject: Subject) -> tuple[str, ...]:
    """A note for each BatchNormalization that holds no statistics, because nothing calls it."""
    return tuple(
        f"{path} has never been called and holds no statistics"
        for path, layer in subject.adapter.batch_norms(subject.model)
        if not layer.built
    )


def in_graph(reading: Reading, norms: dict[str, Any]) -> dict[LayerKey, str] | None:
    """Key and path of those of `norms` that the graph calls; None if it does not show all calls.

    One inside a custom layer or a wrapper such as TimeDistributed has no call of its own there.
    """
    adapter, keys = reading.adapter, dict[int, LayerKey]()
    hidden: set[int] = set()
    for call in reading.graph:
        layer = reading.layers[call.layer]
        keys[id(layer)] = call.layer
        if adapter.is_layer(layer):
            hidden.update(id(inside) for _, inside in adapter.batch_norms(layer))
    if any(id(layer) in hidden for layer in norms.values()):
        return None
    return {keys[id(layer)]: path for path, layer in norms.items() if id(layer) in keys}
