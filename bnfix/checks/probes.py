"""Call a model in every way users do, and measure what its rows depend on.

Each probe starts from the same weights, states and seeds, and all are put back in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
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
        """Row 0 with copies of itself as neighbours, the like of which no statistic survives."""
        return map_arrays(lambda array: np.repeat(array[:1], self.rows, axis=0), self.x)

    @property
    def turned(self) -> Probes:
        """The last row in the place of row 0.

        What depends on a maximum over the batch does not show at the row that holds it.
        """
        alone = None if self.alone is None else map_arrays(lambda array: array[-1:], self.x)
        return Probes(map_arrays(lambda a: np.roll(a, 1, axis=0), self.x), self.rows, alone)

    @property
    def shorter(self) -> Probes:
        """One row less."""
        return Probes(map_arrays(lambda array: array[:-1], self.x), self.rows - 1, self.alone)


def measure(adapter: Adapter, model: Any, probes: Probes) -> list[Measurement]:
    """One measurement per entry point, `predict` first.

    Raises:
        ModelError: The model cannot be run.
    """
    predicted: Arrays | None = None
    found: list[Measurement] = []
    memory = _Memory(adapter, model)
    with adapter.untouched(model):
        for name, call in adapter.entry_points(model).items():
            point = _EntryPoint(memory, name, call)
            found.append(point.measurement(probes, predicted))
            predicted = predicted or point.outputs
    return found


class _EntryPoint:
    """One way of calling a model."""

    def __init__(self, memory: _Memory, name: str, call: Callable[[Any], Any]) -> None:
        self.adapter, self.model, self.memory = memory.adapter, memory.model, memory
        self.name, self.call = name, call
        self.outputs: Arrays = []

    @cached_property
    def unit(self) -> float:
        """What rounding explains of outputs on a scale of 1."""
        depth = sum(1 for _ in self.adapter.tree(self.model))
        return rounding(self.adapter.coarsest_dtype(self.model), depth, 1.0)

    def measurement(self, probes: Probes, predicted: Arrays | None) -> Measurement:
        memory, unit = self.memory, self.unit
        outputs = self.outputs = self.fresh(probes.x)
        changed, carried = memory.changed
        memory.put_back(seeds=False)
        repeat = gap(outputs, self.run(probes.x), unit)
        # With its seeds put back, Keras 3 makes the same random numbers again; tf_keras may not.
        noise = gap(outputs, self.fresh(probes.x), unit).difference if repeat.is_real else 0.0
        alone = None if probes.alone is None else self.fresh(probes.alone)
        coupling = gap(outputs, self.fresh(probes.replaced), unit, row=0)
        last = gap(outputs, self.fresh(probes.turned.replaced), unit, row=-1)
        return Measurement(
            entry_point=self.name,
            alone=None if alone is None else gap(outputs, alone, unit, row=0),
            coupling=max(coupling, last, key=lambda found: found.ratio),
            at_last_row=last.ratio > coupling.ratio,
            repeat=repeat,
            noise=noise,
            against_predict=gap(outputs, predicted or outputs, unit),
            changed=changed,
            carried=carried,
            finite=all(bool(np.isfinite(out).all()) for out in outputs if out.dtype.kind in "fc"),
        )

    def fresh(self, x: Any) -> Arrays:
        """The outputs for `x`, from the weights, states and seeds that the model came with."""
        self.memory.put_back()
        return self.run(x)

    def run(self, x: Any) -> Arrays:
        try:
            outputs = self.call(map_arrays(self.adapter.fed, x))
            flat = self.adapter.flatten(outputs)
            return [np.asarray(self.adapter.to_numpy(leaf)) for leaf in flat]
        except BnfixError:
            raise
        except Exception as error:
            raise ModelError(
                f"{self.model.name} cannot be run through {self.name}: {gist(error)}. Pass x as "
                "you pass it to predict. Nothing was changed."
            ) from error


class _Memory:
    """What a model remembers at one moment: weights, recurrent states, seeds."""

    def __init__(self, adapter: Adapter, model: Any) -> None:
        self.adapter, self.model = adapter, model
        owners = {id(weight): model.name for weight in adapter.weights(model)}
        for path, layer in adapter.tree(model):  # what is inside comes later
            owners.update({id(weight): path for weight in adapter.weights(layer)})
        weights = [(owners[id(weight)], weight) for weight in adapter.weights(model)]
        seeds = [variable for variable in adapter.variables(model) if id(variable) not in owners]
        self._weights = self._held(weights)
        self._states = self._held(adapter.carried(model))
        self._seeds = self._held([("", seed) for seed in seeds])

    @property
    def changed(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Paths of the layers of which a weight is no longer what it was; the same of states."""
        return self._differing(self._weights), self._differing(self._states)

    def put_back(self, *, seeds: bool = True) -> None:
        for _, variable, value in (*self._weights, *self._states, *(self._seeds if seeds else ())):
            variable.assign(value)

    def _held(self, variables: list[tuple[str, Any]]) -> list[tuple[str, Any, Any]]:
        return [(path, variable, self.adapter.copy_value(variable)) for path, variable in variables]

    def _differing(self, held: list[tuple[str, Any, Any]]) -> tuple[str, ...]:
        differing = [path for path, variable, value in held if not self._equal(variable, value)]
        return tuple(dict.fromkeys(differing))

    def _equal(self, variable: Any, value: npt.NDArray[Any]) -> bool:
        now = self.adapter.copy_value(variable)
        return now.tobytes() == value.tobytes()  # bit for bit, NaN included


def gap(ours: Arrays, theirs: Arrays, unit: float, *, row: int | None = None) -> Gap:
    """The output that differs most, in units of what rounding explains on its own scale.

    Args:
        unit: What rounding explains on a scale of 1.
        row: Compare this row only; None compares all. The scale is that of all rows.
    """
    gaps = map(partial(_gap, unit, row), ours, theirs)
    return max(gaps, key=lambda found: found.ratio, default=Gap(0.0, unit))


def _gap(unit: float, row: int | None, ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> Gap:
    a, b = (_wide(values) for values in (ours, theirs))
    if a.dtype.kind not in "fc":
        a, b = _row(a, row), _row(b, row)
        return Gap(float(a.shape != b.shape or bool(np.any(a != b))), unit)
    scale = max(_largest(a), _largest(b)) or 1.0
    a, b = _row(a, row), _row(b, row)
    if a.shape != b.shape:
        return Gap(float("inf"), unit * scale)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        difference = float(np.max(np.where(same, 0.0, np.abs(a - b)), initial=0.0))
    return Gap(difference if np.isfinite(difference) else float("inf"), unit * scale)


def _wide(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Floats in double precision, so that differences are exact and do not overflow."""
    wide = {"f": np.float64, "c": np.complex128}.get(values.dtype.kind)
    return values if wide is None else values.astype(wide)


def _row(values: npt.NDArray[Any], row: int | None) -> npt.NDArray[Any]:
    return values if row is None or not values.ndim else values[row]


def _largest(values: npt.NDArray[Any]) -> float:
    return float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values)))
