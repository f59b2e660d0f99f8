"""Which BatchNormalizations are to be replaced, and does the graph call them?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bnfix.adapters.reading import Reading
from bnfix.graph.definition import LayerKey
from bnfix.graph.select import Selection, select

#: Why one that no graph calls must stay.
HIDDEN = "is called by the code of another layer, which the graph does not show"


@dataclass(frozen=True)
class SelectedNorm:
    """A BatchNormalization that the user means.

    Attributes:
        path: Full path of the layer.
        layer: The layer.
        key: Its key in the graph; None if it is called by the code of another layer.
    """

    path: str
    layer: Any
    key: LayerKey | None


def selected(reading: Reading, layers: Selection) -> list[SelectedNorm]:
    """Every BatchNormalization that `layers` selects, in the model's order.

    Raises:
        OptionError: `layers` names a path without BatchNormalization.
    """
    found = reading.adapter.batch_norms(reading.model)
    chosen = select(layers, [path for path, _ in found], what="BatchNormalization")
    called = {call.layer for call in reading.graph}
    keys = {path: reading.key(layer) for path, layer in found}
    return [
        SelectedNorm(path, layer, keys[path] if keys[path] in called else None)
        for path, layer in found
        if path in chosen
    ]
