"""Write `training=False` into the calls that are in training mode unless someone says otherwise.

Layers of random augmentation have `training=True` as the default of their `call`, and Keras 3 gives
that default to all layers for image preprocessing, `Resizing` and `CenterCrop` included. So
`model(x)` augments; and in Keras 3 the mode of one layer becomes that of every layer behind it, for
whom nothing was said either: each BatchNormalization there normalizes by the batch at hand. With
`training=False` written down, `model(x)` is what `predict` is.
"""

from __future__ import annotations

from bnfix.graph.definition import Definitions, NodeKey
from bnfix.graph.edit import Edit
from bnfix.graph.select import Selection, select
from bnfix.graph.source import Source
from bnfix.outcomes import Outcome, Report


def by_default(definitions: Definitions) -> dict[NodeKey, str]:
    """Path of each call in training mode by the default of its layer."""
    return {key: path for key, path, node in definitions.written() if node.trains_by_default}


def plan(source: Source, selection: Selection = None) -> tuple[Edit, Report]:
    """The edit that writes `training=False` into the selected calls, and what to tell the user."""
    found = by_default(source.definitions)
    chosen = select(selection, list(found.values()), what="layer in training mode by default")
    outcomes = tuple(
        Outcome(
            path,
            path in chosen,
            "training=False written into its call"
            if path in chosen
            else "is in training mode by default, and stays so",
        )
        for path in found.values()
    )
    notes = () if found else ("no layer is in training mode by default",)
    edit = Edit(infer=frozenset(key for key, path in found.items() if path in chosen))
    return edit, Report("strip_augmentation", outcomes, notes, source.graph.records())
