"""Remove `training=` from the calls in which it was baked.

`BatchNormalization()(x, training=True)` normalizes by the batch at hand whatever the caller asks
for: in tf_keras always, in Keras 3 unless the caller passes `training` itself, as `predict` does.
Without it the caller decides, and inference uses the moving statistics.
"""

from __future__ import annotations

from bnfix.graph.definition import Definitions, NodeKey
from bnfix.graph.edit import Edit
from bnfix.graph.select import Selection, select
from bnfix.graph.source import Source
from bnfix.outcomes import Outcome, Report


def baked(definitions: Definitions) -> dict[NodeKey, tuple[str, bool]]:
    """Path and value of each `training=` written into a call, nested models' own included.

    Without the training=False that `strip_augmentation` writes, where none would mean True.
    """
    return {
        key: (path, node.training)
        for key, path, node in definitions.written()
        if node.training is not None and not node.kept_calm
    }


def plan(source: Source, selection: Selection = None) -> tuple[Edit, Report]:
    """The edit that removes the selected `training=`, and what to tell the user."""
    found = baked(source.definitions)
    chosen = select(selection, [path for path, _ in found.values()], what="baked training=")
    outcomes = tuple(
        Outcome(path, path in chosen, f"training={value} {_verb(path in chosen)} its call")
        for path, value in found.values()
    )
    notes = tuple(_thaws(path) for path, value in found.values() if path in chosen and not value)
    if not found:
        notes = ("no call has training= baked in",)
    edit = Edit(untrain=frozenset(key for key, (path, _) in found.items() if path in chosen))
    return edit, Report("strip_training", outcomes, notes, source.graph.records())


def _verb(removed: bool) -> str:
    return "removed from" if removed else "stays in"


def _thaws(path: str) -> str:
    return (
        f"{path} was kept in inference mode by training=False; fit now trains it. "
        "bnfix.freeze(model) keeps its statistics."
    )
