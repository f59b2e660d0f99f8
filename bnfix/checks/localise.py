"""Which layer is to blame?

A layer is coupled to the batch if row 0 goes in the same and comes out different when its
neighbours are replaced. Behind such a layer all rows differ, so BatchNormalizations are recognised
by a second sign as well: row 0 does not come out as their stored statistics would have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bnfix.adapters import weights
from bnfix.adapters.base import Adapter
from bnfix.adapters.watching import Event, Rows, watched
from bnfix.checks.probes import Probes, gap
from bnfix.data.structure import map_arrays
from bnfix.numerics.norm import NormSpec
from bnfix.numerics.tolerance import rounding


class Trace:
    """The calls that happen within a model, once among the given neighbours and once among others.

    Args:
        training: What the entry point passes on: False for `predict`, None where the model decides.
    """

    def __init__(self, adapter: Adapter, model: Any, probes: Probes, training: bool | None) -> None:
        self.adapter = adapter
        self.rows = probes.rows
        with adapter.preserved(model):
            self.norms = dict(_norms(adapter, model))
            self.events = self._run(model, probes.x, training)
        with adapter.preserved(model):
            self.replaced = self._run(model, probes.replaced, training)

    def _run(self, model: Any, x: Any, training: bool | None) -> list[Event]:
        with watched(self.adapter, model, self.rows) as events:
            fed = map_arrays(self.adapter.fed, x)
            model(fed) if training is None else model(fed, training=training)
        return events

    def by_batch_statistics(self) -> list[str]:
        """Paths of the BatchNormalizations that do not normalize by what they have stored."""
        coupled = set(self.coupled())
        return _once(
            event.path
            for event in self.events
            if self.adapter.is_batch_norm(event.layer)
            and (event.path in coupled or self._disregards_statistics(event))
        )

    def coupled(self) -> list[str]:
        """Paths of the innermost layers through which row 0 hears of its neighbours."""
        return list(_first_to_differ(self.events, self.replaced))

    def not_finite(self) -> list[str]:
        """Paths of the innermost layers that make finite numbers infinite or not a number."""
        found: list[str] = []
        for event in self.events:
            bad = _is_finite(event.inputs) and not _is_finite(event.outputs)
            if bad and not _holds(event.path, found):
                found.append(event.path)
        return _once(iter(found))

    def differs_from(self, other: Trace) -> list[str]:
        """Paths of the innermost layers that treat the same row 0 differently in `other`."""
        return list(_first_to_differ(self.events, other.events))

    def _disregards_statistics(self, event: Event) -> bool:
        norm = self.norms.get(id(event.layer))
        if norm is None or not event.inputs or not event.outputs:
            return False
        axis = weights.channel_axis(event.layer, event.inputs[0].ndim)
        x = np.moveaxis(event.inputs[0].astype(np.float64), axis or 0, -1)
        got = np.moveaxis(event.outputs[0].astype(np.float64), axis or 0, -1)
        scale, shift = norm.affine()
        # The terms may be larger than their sum, and each is rounded.
        terms = np.abs(x * scale) + np.abs(norm.moving_mean * scale) + np.abs(shift)
        tolerance = rounding(str(event.layer.compute_dtype), 1, float(np.max(terms, initial=0.0)))
        return bool(np.max(np.abs(got - (x * scale + shift)), initial=0.0) > tolerance)


def _norms(adapter: Adapter, model: Any) -> Iterator[tuple[int, NormSpec]]:
    """What each BatchNormalization of Keras's own class has stored now."""
    for _, layer in adapter.batch_norms(model):
        norm = weights.read_norm(layer, 1) if adapter.is_own(layer) and layer.built else None
        if norm is not None:
            yield id(layer), norm


def _first_to_differ(ours: list[Event], theirs: list[Event]) -> Iterator[str]:
    found: list[str] = []
    for a, b in zip(ours, theirs, strict=False):
        if a.path != b.path:  # the model took another way for other rows
            return
        differs = not _agree(a.inputs, b.inputs, a.layer) or _agree(a.outputs, b.outputs, a.layer)
        if not differs and not _holds(a.path, found):
            found.append(a.path)
    yield from _once(iter(found))


def _agree(ours: Rows, theirs: Rows, layer: Any) -> bool:
    tolerance = rounding(str(getattr(layer, "compute_dtype", "")), 1, 1.0)
    return len(ours) == len(theirs) and not gap(list(ours), list(theirs), tolerance).is_real


def _holds(path: str, found: list[str]) -> bool:
    """Whether `path` is around one of the layers found, which is then the one to name."""
    return any(inner.startswith(f"{path}/") for inner in found)


def _is_finite(rows: Rows) -> bool:
    return all(bool(np.isfinite(row).all()) for row in rows if row.dtype.kind == "f")


def _once(paths: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(paths))
