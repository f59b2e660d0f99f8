"""Call a model in every way users do, and measure what its first row depends on.

Each probe starts from the same weights, states and seeds, and all are put back in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfix.adapters.base import Adapter
from bnfix.checks.report import Gap, Measurement
from bnfix.data.structure import map_arrays
from bnfix.errors import BnfixError, ModelError, gist
from bnfix.numerics.tolerance import rounding

Arrays = list[npt.NDArray[Any]]


@dataclass(frozen=True)
class Probes:
    """The inputs of a check, in the structure that the model takes.

    Attributes:
        x: `rows` rows.
        rows: How many.
        alone: Row 0 as a batch of its own; None where the model takes one batch size only.
    """

    x: Any
    rows: int
    alone: Any

    @property
    def replaced(self) -> Any:
        """Row 0 with copies of itself as neighbours: no statistic over the batch survives that."""
        return map_arrays(lambda array: np.repeat(np.asarray(array[:1]), self.rows, axis=0), self.x)


def measure(adapter: Adapter, model: Any, probes: Probes) -> list[Measurement]:
    """One measurement per entry point, `predict` first."""
    tolerance = rounding(adapter.coarsest_dtype(model), sum(1 for _ in adapter.tree(model)), 1.0)
    predicted: Arrays = []
    found: list[Measurement] = []
    for name, call in adapter.entry_points(model).items():
        measurement, outputs = _measure(adapter, model, name, call, probes, predicted, tolerance)
        predicted = predicted or outputs
        found.append(measurement)
    return found


def _measure(
    adapter: Adapter,
    model: Any,
    name: str,
    call: Callable[[Any], Any],
    probes: Probes,
    predicted: Arrays,
    tolerance: float,
) -> tuple[Measurement, Arrays]:
    def run(x: Any) -> Arrays:
        try:
            outputs = call(map_arrays(adapter.fed, x))
            return [np.asarray(adapter.to_numpy(leaf)) for leaf in adapter.flatten(outputs)]
        except BnfixError:
            raise
        except Exception as error:
            raise ModelError(
                f"{model.name} cannot be run through {name}: {gist(error)}. Pass x as you pass it "
                "to predict. Nothing was changed."
            ) from error

    with adapter.preserved(model):
        changed, outputs = changed_by(adapter, model, lambda: run(probes.x))
        twice = run(probes.x)
    with adapter.preserved(model):
        replaced = run(probes.replaced)
    alone = None
    if probes.alone is not None:
        with adapter.preserved(model):
            alone = run(probes.alone)
    measurement = Measurement(
        entry_point=name,
        alone=None if alone is None else gap(outputs, alone, tolerance, first_row=True),
        coupling=gap(outputs, replaced, tolerance, first_row=True),
        repeat=gap(outputs, twice, tolerance),
        against_predict=gap(outputs, predicted or outputs, tolerance),
        changed=changed,
        finite=all(
            bool(np.isfinite(output).all()) for output in outputs if output.dtype.kind == "f"
        ),
    )
    return measurement, outputs


def changed_by(
    adapter: Adapter, model: Any, run: Callable[[], Arrays]
) -> tuple[tuple[str, ...], Arrays]:
    """Paths of the layers of which `run` changed a weight, and what it returned."""
    owners = {id(weight): model.name for weight in adapter.weights(model)}
    for path, layer in adapter.tree(model):  # what is inside comes later
        owners.update({id(weight): path for weight in adapter.weights(layer)})
    before = [(weight, adapter.copy_value(weight)) for weight in adapter.weights(model)]
    outputs = run()
    changed = [
        owners[id(weight)]
        for weight, value in before
        if not np.array_equal(adapter.copy_value(weight), value, equal_nan=value.dtype.kind == "f")
    ]
    return tuple(dict.fromkeys(changed)), outputs


def gap(ours: Arrays, theirs: Arrays, tolerance: float, *, first_row: bool = False) -> Gap:
    """The output that differs most in units of `tolerance` times its own scale."""
    pairs = list(zip(ours, theirs, strict=True))
    gaps = [_gap(a[:1], b[:1], tolerance) if first_row else _gap(a, b, tolerance) for a, b in pairs]
    return max(gaps, key=lambda found: found.ratio, default=Gap(0.0, tolerance))


def _gap(ours: npt.NDArray[Any], theirs: npt.NDArray[Any], tolerance: float) -> Gap:
    if ours.shape != theirs.shape:
        return Gap(float("inf"), tolerance)
    if ours.dtype.kind not in "fc":
        return Gap(float(np.any(ours != theirs)), tolerance)
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        difference = float(np.max(np.where(same, 0.0, np.abs(a - b)), initial=0.0))
    scale = float(np.max(np.abs(a), initial=0.0, where=np.isfinite(a)))
    return Gap(difference if np.isfinite(difference) else float("inf"), tolerance * (scale or 1.0))
