"""Which repairs need no forward pass, and what do they change in a file?

A baked `training=` and the `trainable` of a layer stand in the configuration, statistics in the
weights. So they are mended where they stand, without Keras and without any code of the model's
author, and all else in the file stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfix.files.config import LayerEntry, keywords_of, layers_of
from bnfix.files.container import Format, Stored
from bnfix.files.text import items_of
from bnfix.files.weight_paths import Places, weight_paths_in
from bnfix.outcomes import Outcome

#: What Keras begins with; it stands in for statistics that are not numbers.
_INITIAL = {
    "moving_mean": 0.0,
    "moving_variance": 1.0,
    "moving_stddev": 1.0,
    "renorm_mean": 0.0,
    "renorm_stddev": 1.0,
}


@dataclass(frozen=True)
class Wishes:
    """Which edits are wanted; see `repair_file`."""

    strip_training: bool
    freeze: bool
    replace_non_finite: bool


@dataclass
class Edits:
    """What is going to be changed in a file.

    Attributes:
        config: The new text of the model's configuration; None if that stays.
        values: New values of datasets, by path in the HDF5 file.
        outcomes: What is done to which layer, or why not.
    """

    config: str | None = None
    values: dict[str, npt.NDArray[Any]] = field(default_factory=dict[str, npt.NDArray[Any]])
    outcomes: list[Outcome] = field(default_factory=list[Outcome])

    def __bool__(self) -> bool:
        return self.config is not None or bool(self.values)


def plan_edits(stored: Stored, wishes: Wishes) -> Edits:
    """The edits of `stored` that are wanted and needed; its configuration in memory is changed."""
    edits = Edits()
    layers = list(layers_of(stored.model)) if stored.model is not None else []
    norms, hidden = _norms(stored, layers)
    changed = False
    if wishes.strip_training:
        changed |= _strip(layers, [path for path, _ in hidden], edits)
    if wishes.freeze:
        changed |= _freeze(layers, stored.format, edits)
    if changed:
        edits.config = json.dumps(stored.model)
    if wishes.replace_non_finite:
        for path, places in [*norms, *hidden]:
            _replace_non_finite(stored, path, places, edits)
    return edits


_Located = list[tuple[str, Places]]


def _norms(stored: Stored, layers: list[LayerEntry]) -> tuple[_Located, _Located]:
    """Where the BatchNormalizations keep their weights: those that are told of, and the others."""
    if stored.weights is None:
        return [], []
    stored_at = weight_paths_in(stored.weights)
    told = [(layer.path, stored_at.of(layer)) for layer in layers if layer.is_batch_norm]
    return told, list(stored_at.others(layers))


# --- the configuration ---------------------------------------------------------------------------


def _strip(layers: list[LayerEntry], hidden: list[str], edits: Edits) -> bool:
    """Take `training=True` out of the calls that reach a BatchNormalization."""
    norms = [layer.path for layer in layers if layer.is_batch_norm] + hidden
    changed = False
    for layer in layers:
        reaches = any(f"{path}/".startswith(f"{layer.path}/") for path in norms)
        calls = [keywords for keywords in _keywords(layer) if keywords["training"] is True]
        if not (reaches and calls):
            continue
        for keywords in calls:
            del keywords["training"]
        changed = True
        edits.outcomes.append(Outcome(layer.path, True, "training=True removed from its call"))
    return changed


def _keywords(layer: LayerEntry) -> Iterator[dict[str, Any]]:
    for node in items_of(layer.entry.get("inbound_nodes")):
        yield from keywords_of(node)


def _freeze(layers: list[LayerEntry], form: Format, edits: Edits) -> bool:
    """Set `trainable=False` on each BatchNormalization."""
    changed = False
    for layer in layers:
        if not layer.is_batch_norm or layer.config.get("trainable") is False:
            continue
        if form is Format.H5 and not layer.whole:
            # This format sorts the weights of a nested model by what is trainable.
            why = "stays trainable: in an .h5 file the flag of a nested layer moves its weights"
            edits.outcomes.append(Outcome(layer.path, False, why))
            continue
        layer.config["trainable"] = False
        changed = True
        edits.outcomes.append(Outcome(layer.path, True, "frozen: trainable=False"))
    return changed


# --- the weights ---------------------------------------------------------------------------------


def _replace_non_finite(stored: Stored, path: str, places: Places, edits: Edits) -> None:
    if stored.weights is None:
        return
    for role, initial in _INITIAL.items():
        if role not in places:
            continue
        values = stored.weights.values(places[role])
        bad = ~np.isfinite(values)
        if bad.any():
            edits.values[places[role]] = np.where(bad, initial, values).astype(values.dtype)
            detail = f"{int(bad.sum())} of {values.size} values of {role} replaced by {initial:g}"
            edits.outcomes.append(Outcome(path, True, detail))
