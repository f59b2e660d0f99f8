"""Prove that a rebuilt model computes what its source computes.

Both run on the same inputs. What rounding explains is known beforehand
(`bnfix.numerics.tolerance`); where the difference is larger, both are rebuilt in float64, in which
a wrong algebra stays as wrong as it was and rounding all but vanishes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bnfix.adapters.base import Adapter
from bnfix.adapters.reading import Reading
from bnfix.adapters.rebuilding import rebuild
from bnfix.breadth_first.pieces import keeps_rows_apart
from bnfix.errors import UnsupportedModelError, VerificationError
from bnfix.graph.edit import Edit
from bnfix.numerics.tolerance import rounding
from bnfix.operations.samples import samples


@dataclass(frozen=True)
class Agreement:
    """How well two models agree: largest difference over scale, and what is tolerated of it."""

    difference: float
    tolerance: float
    dtype: str

    def __bool__(self) -> bool:
        return self.difference <= self.tolerance

    def __str__(self) -> str:
        return (
            f"outputs differ by {self.difference:.2g} of their scale in {self.dtype} "
            f"(tolerance {self.tolerance:.2g})"
        )


def verify(reading: Reading, edit: Edit, changed: Any, x: Any, *, operation: str) -> Agreement:
    """Compare the model read with `changed`, the model rebuilt from it by `edit`.

    Args:
        x: Inputs of the model, or None to make some from its input specs.
        operation: Named in the error.

    Raises:
        VerificationError: They do not agree, or could not be run.
    """
    inputs, before = (x, _run(reading, x)) if x is not None else _runnable(reading)
    depth = len(reading.graph)
    dtype = reading.adapter.coarsest_dtype(reading.model)
    agreement = _agreement(reading.adapter, before, changed, inputs, depth, dtype)
    if not agreement:
        agreement = _shadow(reading, edit, inputs, depth) or agreement
    if not agreement:
        raise VerificationError(
            f"{operation} gave a model that does not reproduce {reading.model.name}: {agreement}. "
            "It "
            "was withheld and the model given was not changed. Please report this model; meanwhile "
            "bnfix.freeze keeps its BatchNormalization in inference mode."
        )
    return agreement


def opened_as(reading: Reading, x: Any, *, operation: str) -> tuple[str, ...]:
    """Compare the model read with the graph of all that was opened in it; what to tell of it.

    Raises:
        VerificationError: They do not agree, or could not be run.
    """
    if not reading.opened:
        return ()
    everything = rebuild(reading, Edit(), closing=False)
    agreement = verify(reading, Edit(), everything.model, x, operation=operation)
    return (f"opened as it is: {agreement}",)


def _run(reading: Reading, inputs: Any) -> list[Any]:
    with reading.adapter.preserved(reading.model):
        return reading.adapter.infer(reading.model, inputs)


def _agreement(
    adapter: Adapter, before: list[Any], new: Any, inputs: Any, depth: int, dtype: str
) -> Agreement:
    tolerance = rounding(dtype, depth, 1.0)
    try:
        after = adapter.infer(new, inputs)
    except adapter.run_errors:
        return Agreement(np.inf, tolerance, dtype)  # what does not run agrees with nothing
    worst = 0.0
    for ours, theirs in zip(after, before, strict=True):
        scale = float(np.max(np.abs(theirs), initial=0.0)) or 1.0
        gap = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
        same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
        worst = max(worst, float(np.max(np.where(same, 0.0, gap), initial=0.0)) / scale)
    return Agreement(worst if np.isfinite(worst) else np.inf, tolerance, dtype)


def _shadow(reading: Reading, edit: Edit, inputs: Any, depth: int) -> Agreement | None:
    """The comparison in float64 without baked `training=`, which may make a model random.

    None where the layers cannot be had in float64.
    """
    written = reading.definitions.written()
    baked = frozenset(key for key, _, node in written if node.training is not None)
    try:
        old = rebuild(reading, Edit(untrain=baked), dtype="float64").model
        calm = replace(edit, untrain=edit.untrain | baked)
        new = rebuild(reading, calm, dtype="float64").model
        before = reading.adapter.infer(old, inputs)
    except (UnsupportedModelError, *reading.adapter.run_errors):
        return None
    dtype = reading.adapter.coarsest_dtype(old)
    return _agreement(reading.adapter, before, new, inputs, depth, dtype)


def _rows(reading: Reading) -> int:
    """One row tells all, unless a layer may look at the others: alone it might be erased there."""
    apart = all(
        keeps_rows_apart(call.kind, reading.layers[call.layer]) and not call.training
        for call in reading.graph
    )
    return 1 if apart else 2


def _runnable(reading: Reading) -> tuple[Any, list[Any]]:
    """Inputs on which the model runs, in the structure that it takes, and what it makes of them."""
    adapter, model = reading.adapter, reading.model
    functional = reading.functional
    specs = [adapter.tensor_spec(tensor) for tensor in functional.inputs]
    error: Exception | None = None
    for flat in samples(specs, rows=_rows(reading)):
        inputs = adapter.pack(adapter.input_structure(functional), flat)
        try:
            return inputs, _run(reading, inputs)
        except adapter.run_errors as failure:
            error = failure
    raise VerificationError(
        f"{model.name} could not be run on generated inputs ({error}). Pass inputs that it "
        "accepts as "
        "x=. Nothing was changed."
    )
