"""Which layer is to blame?

A layer is coupled to the batch if row 0 goes in the same and comes out different when its
neighbours are replaced. Behind such a layer all rows differ, so BatchNormalizations are recognised
by a second sign as well: row 0 does not come out as their stored statistics would have it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from bnfix.adapters import weights
from bnfix.adapters.subject import Subject
from bnfix.adapters.watching import Event, Rows, watching, watching_compiled
from bnfix.checks.gaps import gap
from bnfix.checks.measurement import Gap, LayerGap, worst
from bnfix.checks.probes import Probes
from bnfix.errors import ModelError, gist
from bnfix.numerics.norm import NormSpec
from bnfix.numerics.tolerance import AMPLIFIED, rounding
from bnfix.tree import map_leaves

#: Calls that are compared with a first one, to see which layers are random.
_DRAWS = 4


class Trace:
    """The calls that happen within a model, once among the given neighbours and once among others.

    Args:
        training: What the entry point passes on: False for `predict`, None where the model decides.
    """

    def __init__(self, subject: Subject, probes: Probes, training: bool | None) -> None:
        self.subject, self.probes, self.training = subject, probes, training
        self.adapter, self.model = subject
        self._compiled = (
            watching_compiled(subject, probes.rows, training=True) if self._compiles() else None
        )
        with self.adapter.untouched(self.model):
            self.norms = dict(_norms(subject))
            self.events = self._run(probes.x)

    def _compiles(self) -> bool:
        """In training there is one way of calling, so that all that is compared is one program."""
        backend = self.adapter.backend
        compiles = backend.compiles_each_length and not backend.runs_eagerly(self.model)
        return self.training is True and compiles

    @cached_property
    def _replaced(self) -> list[Event]:
        with self.adapter.untouched(self.model):
            return self._run(self.probes.replaced)

    def _run(self, x: Any, *, whole: bool = False) -> list[Event]:
        fed = map_leaves(self.adapter.fed, x)
        if self._compiled is not None and not whole:
            try:
                return self._compiled(fed)
            except Exception:  # whatever it is, uncompiled code tells of it, or does without
                self._compiled = None
        run = watching(self.subject, self.probes.rows, training=self.training, whole=whole)
        try:
            return run(fed)
        except Exception as error:  # whatever the code of a model raises
            raise ModelError(
                f"{self.model.name} ran on these inputs, and then failed while its layers were "
                f"watched: {gist(error)}. It has to run on the same inputs again and again."
            ) from error

    def position(self, path: str | None) -> int:
        """When the layer at `path` has first run; what has not run comes last."""
        paths = [event.path for event in self.events]
        return paths.index(path) if path in paths else len(paths)

    def by_batch_statistics(self, changed: frozenset[int]) -> list[str]:
        """Paths of the BatchNormalizations that do not normalize by what they have stored.

        Args:
            changed: Ids of layers that have overwritten their weights. It is the only sign of a
                subclass behind another coupled layer, for what it computes is its own affair.
        """
        return _once(
            event.path
            for event in self.events
            if self.adapter.is_batch_norm(event.layer)
            and (
                event.path in self.coupled
                or self._disregards_statistics(event)
                or (id(event.layer) in changed and id(event.layer) not in self.norms)
            )
        )

    def mixing(self, norms: Collection[str]) -> list[str]:
        """Paths of the innermost layers but `norms` through which row 0 hears of its neighbours.

        An axis as long as the batch by chance looks like rows; it does not in a shorter batch.
        """
        found = [path for path in self.coupled if path not in norms]
        if not found or self.probes.alone is None or self.probes.rows < 3:
            return found
        try:
            shorter = Trace(self.subject, self.probes.shorter, self.training)
            return [path for path in found if path in shorter.coupled]
        except ModelError:  # the batch size is written into some layer
            return found

    @cached_property
    def coupled(self) -> list[str]:
        return _first_to_differ(self.events, self._replaced) or self._swallowing

    def gaps(self) -> tuple[LayerGap, ...]:
        """How far each layer that holds no other is moved when the neighbours are replaced.

        Empty where that was not looked at: a picture is not worth another run.
        """
        if "_replaced" not in vars(self):
            return ()
        found: dict[str, list[Gap]] = {}
        for a, b in zip(self.events, self._replaced, strict=False):
            if a.path != b.path:  # the model takes another way for other rows
                break
            if a.outputs and len(a.outputs) == len(b.outputs) and not _holds(a.path, list(found)):
                found.setdefault(a.path, []).append(_gap(a.outputs, b.outputs, a.layer))
        return tuple(LayerGap(path, worst(all_of)) for path, all_of in found.items())

    @property
    def _swallowing(self) -> list[str]:
        """Paths of the innermost layers that take the same row 0 and give what has no rows at all,
        such as a mean over the batch, but not the same.
        """
        if all(event.outputs or not event.inputs for event in self.events):
            return []
        with self.adapter.untouched(self.model):
            ours = self._run(self.probes.x, whole=True)
            theirs = self._run(self.probes.replaced, whole=True)
        found: list[str] = []
        for a, b in zip(ours, theirs, strict=False):
            swallows = a.inputs and not a.outputs and _identical(a.inputs, b.inputs)
            if swallows and not _agree(a.given, b.given, a.dtype) and not _holds(a.path, found):
                found.append(a.path)
        return _once(iter(found))

    @cached_property
    def random(self) -> list[str]:
        """Paths of the innermost layers that answer the same input differently in a second call.

        All rows of the input are to be the same, and any of the output may differ: what is random
        in one row moves the others in a layer that mixes rows, and that one is not to blame.
        """
        with self.adapter.untouched(self.model):
            first = self._run(self.probes.x, whole=True)
            for _ in range(_DRAWS):  # a few rows may be flipped alike twice
                if found := _first_to_differ(first, self._run(self.probes.x, whole=True)):
                    return found
        return []

    # --- training mode by default ------------------------------------------------------------

    @cached_property
    def leaders(self) -> dict[str, int]:
        """When those layers were entered whose own default is training=True; the model's name is
        that of the model itself, if it is one of them or all layers are, by the user's word.
        """
        adapter, model = self.adapter, self.model
        whole = adapter.default_training(model) or adapter.trains_unless_told()
        found = {model.name: -1} if whole else {}
        for event in self.events:
            if adapter.is_layer(event.layer) and adapter.default_training(event.layer):
                found.setdefault(event.path, event.entered)
        return found

    def leading(self, path: str) -> list[str]:
        """Those of `leaders` by whose default the layer at `path` is in training mode."""
        entered = min((e.entered for e in self.events if e.path == path), default=-1)
        return [
            leader
            for leader, at in self.leaders.items()
            if leader == path
            or at < 0
            or path.startswith(f"{leader}/")
            or (self.adapter.default_training_spreads and at < entered)
        ]

    def not_finite(self) -> list[str]:
        """Paths of the innermost layers that make finite numbers infinite or not a number."""
        found: list[str] = []
        for event in self.events:
            bad = _is_finite(event.inputs) and not _is_finite(event.outputs)
            if bad and not _holds(event.path, found):
                found.append(event.path)
        return _once(iter(found))

    def by_length(self) -> str | None:
        """Path of the first layer that treats the same row 0 differently in a batch of its own.

        Not bit for bit: other kernels round in other ways.
        """
        if self.probes.alone is None:
            return None
        alone = replace(self.probes, x=self.probes.alone, rows=self.probes.least)
        other = Trace(self.subject, alone, self.training)
        for a, b in zip(self.events, other.events, strict=False):
            if a.path != b.path:
                return None
            near = a.inputs and _agree(a.inputs, b.inputs, a.dtype)
            same_shape = [i.shape for i in a.outputs] == [i.shape for i in b.outputs]
            if near and same_shape and _gap(a.outputs, b.outputs, a.dtype).ratio > AMPLIFIED:
                return a.path
        return None

    def differs_from(self, other: Trace) -> list[str]:
        """Paths of the innermost layers that treat the same row 0 differently in `other`."""
        return _first_to_differ(self.events, other.events)

    def _disregards_statistics(self, event: Event) -> bool:
        norm = self.norms.get(id(event.layer))
        if norm is None or not event.inputs or not event.outputs:
            return False
        axis = weights.channel_axis(event.layer, event.inputs[0].ndim)
        x = np.moveaxis(event.inputs[0].astype(np.float64), axis or 0, -1)
        got = np.moveaxis(event.outputs[0].astype(np.float64), axis or 0, -1)
        scale, shift = norm.affine()
        if x.shape[-1] != scale.size or x.shape != got.shape:
            return False  # the channels were taken for the rows
        # The terms may be larger than their sum, and each is rounded.
        terms = np.abs(x * scale) + np.abs(norm.moving_mean * scale) + np.abs(shift)
        tolerance = rounding(event.dtype, 1, float(np.max(terms, initial=0.0)))
        return bool(np.max(np.abs(got - (x * scale + shift)), initial=0.0) > tolerance)


def _norms(subject: Subject) -> Iterator[tuple[int, NormSpec]]:
    """What each BatchNormalization of Keras's own class has stored now.

    Renormalization keeps more than mean and variance, and may go by that.
    """
    adapter, model = subject
    for _, layer in adapter.batch_norms(model):
        if adapter.is_own(layer) and layer.built and len(weights.statistics(layer)) == 2:
            norm = weights.read_norm(layer, 1)
            if norm is not None:
                yield id(layer), norm


def _first_to_differ(ours: list[Event], theirs: list[Event]) -> list[str]:
    """Paths of the innermost layers that are given the same row 0 and make different ones of it."""
    found: list[str] = []
    without_rows: list[str] = []
    for a, b in zip(ours, theirs, strict=False):
        if a.path != b.path:  # the model takes another way for other rows
            break
        same = _identical(a.inputs, b.inputs) and _identical(a.taken, b.taken)
        agree = _agree(a.outputs, b.outputs, a.dtype) and _agree(a.given, b.given, a.dtype)
        if same and not agree:
            # What is given no rows at all may be handed the fault of another.
            suspects = found if a.inputs else without_rows
            suspects += [] if _holds(a.path, found) else [a.path]
    return _once(iter(found or without_rows))


def _identical(ours: Rows, theirs: Rows) -> bool:
    """Equal bit for bit, as they are unless something before has moved them, however little."""
    return len(ours) == len(theirs) and all(
        a.shape == b.shape and a.dtype == b.dtype and _same(a, b)
        for a, b in zip(ours, theirs, strict=True)
    )


def _same(ours: Any, theirs: Any) -> bool:
    return np.array_equal(ours, theirs, equal_nan=ours.dtype.kind in "fc")


def _agree(ours: Rows, theirs: Rows, dtype: str) -> bool:
    return len(ours) == len(theirs) and not _gap(ours, theirs, dtype).is_real


def _gap(ours: Rows, theirs: Rows, dtype: str) -> Gap:
    return gap(list(ours), list(theirs), rounding(dtype, 1, 1.0))


def _holds(path: str, found: list[str]) -> bool:
    """Whether `path` is around one of the layers found, which is then the one to name."""
    return any(inner.startswith(f"{path}/") for inner in found)


def _is_finite(rows: Rows) -> bool:
    return all(bool(np.isfinite(row).all()) for row in rows if row.dtype.kind == "f")


def _once(paths: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(paths))
