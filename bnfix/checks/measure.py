"""Call a model in every way users do, and measure what its rows depend on.

Each call starts from the same weights, states and seeds, and all are put back in the end. A first
look costs no more than three passes over the rows: with n rows, `predict` takes 2n + 1 of them, and
the other entry points the rest, at smaller batch sizes of their own. On JAX, which compiles for
each batch size, these stay at n rows. Only where that shows something is everything measured.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from bnfix.adapters.subject import Subject
from bnfix.checks.gaps import Arrays, gap, gaps
from bnfix.checks.measurement import Gap, Measurement, worst
from bnfix.checks.probes import Probes
from bnfix.checks.snapshot import Memory
from bnfix.errors import BnfixError, ModelError, gist
from bnfix.numerics.tolerance import UNIT, rounding
from bnfix.tree import map_leaves

EntryPoints = Mapping[str, Callable[[Any], Any]]


def measure(
    subject: Subject,
    probes: Probes,
    points: EntryPoints,
    apart: EntryPoints,
    advance: Callable[[], Any] = lambda: None,
) -> tuple[Measurement, ...]:
    """One measurement per entry point, `predict` first; `advance` is called after each.

    Args:
        subject: The model.
        probes: Inputs.
        points: Ways of calling it, which may share what is compiled.
        apart: The same, each compiled by itself, as users' are: what counts where something shows.
        advance: Called after each.

    Raises:
        ModelError: The model cannot be run.
    """
    adapter, model = subject
    with adapter.untouched(model):
        with adapter.functions_kept(model):
            found = Meter(subject, points, advance).glance(probes)
        if any(point.tells for point in found):
            with adapter.functions_kept(model):
                found = Meter(subject, apart).all(probes)
    return tuple(found)


class Meter:
    """Measures one model through several entry points."""

    def __init__(
        self, subject: Subject, points: EntryPoints, advance: Callable[[], Any] = lambda: None
    ) -> None:
        self.advance = advance
        memory = Memory(subject)
        self.points = [EntryPoint(memory, name, call) for name, call in points.items()]

    def glance(self, probes: Probes) -> list[Measurement]:
        """What is wrong anywhere shows somewhere.

        The first point pairs a batch with one in which row 0 has other neighbours. What the others
        answer for the last row, among other neighbours again, has to be what the first did; what is
        random or goes on from call to call shows in it just as well as its neighbours do.
        """
        first, *others = self.points
        found = [first.pair(probes)]
        self.advance()
        predicted = [_turned(output) for output in first.outputs]
        for point, rows in zip(others, probes.sizes, strict=False):
            glanced = point.single(probes.turned.first(rows), predicted)
            found.append(replace(glanced, at_last_row=True))
            self.advance()
        return found

    def response(self, probes: Probes) -> float:
        """How far row 0 moves where every weight is off by one rounding error, up or down."""
        point = self.points[0]
        outputs = point.fresh(probes.x)
        point.memory.disturb(point.unit_of_weights)
        moved = point.run(probes.x)
        point.memory.put_back()
        return gap(outputs, moved, point.unit, row=0).difference

    def all(self, probes: Probes) -> list[Measurement]:
        predicted: Arrays | None = None
        found: list[Measurement] = []
        for point in self.points:
            found.append(point.measurement(probes, predicted))
            predicted = predicted or point.outputs
        return found


def _turned(output: Any) -> Any:
    return np.roll(output, 1, axis=0) if output.ndim else output.reshape(1)


class EntryPoint:
    """One way of calling a model."""

    def __init__(self, memory: Memory, name: str, call: Callable[[Any], Any]) -> None:
        self.adapter, self.model, self.memory = memory.adapter, memory.model, memory
        self.name, self.call = name, call
        self.outputs: Arrays = []
        self.labels: tuple[str, ...] = ()

    @cached_property
    def unit(self) -> float:
        """What rounding explains of outputs on a scale of 1."""
        depth = sum(1 for _ in self.adapter.tree(self.model))
        return rounding(self.adapter.rounding_dtype(self.model), depth, 1.0)

    @property
    def unit_of_weights(self) -> float:
        return UNIT.get(self.adapter.rounding_dtype(self.model), UNIT["float32"])

    # --- a first look ------------------------------------------------------------------------

    def pair(self, probes: Probes) -> Measurement:
        """Two calls at one batch size and, where it may be another, one on row 0 alone."""
        outputs, changed, carried = self._first_call(probes.x)
        again = self.fresh(probes.replaced)
        alone = None if probes.alone is None else self.fresh(probes.alone)
        coupling = gap(outputs, again, self.unit, row=0)
        found = self._measured(coupling, gap(outputs, outputs, self.unit), changed, carried)
        lonely = None if alone is None else gap(outputs, alone, self.unit, row=0)
        return replace(found, alone=lonely)

    def single(self, probes: Probes, predicted: Arrays) -> Measurement:
        """One call among replaced neighbours, against the same row of `predict` among its own."""
        outputs, changed, carried = self._first_call(probes.replaced)
        apart = gap(outputs, predicted, self.unit, row=0)
        coupling = apart if apart.is_real else Gap(0.0, apart.tolerance)
        return self._measured(coupling, apart, changed, carried)

    def _first_call(self, x: Any) -> tuple[Arrays, tuple[str, ...], tuple[str, ...]]:
        outputs = self.outputs = self.fresh(x)
        return outputs, *self.memory.changed

    # --- everything --------------------------------------------------------------------------

    def measurement(self, probes: Probes, predicted: Arrays | None) -> Measurement:
        memory, unit = self.memory, self.unit
        outputs, changed, carried = self._first_call(probes.x)
        goes_on = bool(changed) and gap(outputs, self.run(probes.x), unit).is_real
        memory.put_back(seeds=False)
        repeat = gap(outputs, self.run(probes.x), unit)
        # With its seeds put back, Keras 3 makes the same random numbers again; tf_keras may not.
        noise = gap(outputs, self.fresh(probes.x), unit).difference if repeat.is_real else 0.0
        fewer = self._fewer(probes)
        first = gaps(outputs, self.fresh(probes.replaced), unit, row=0)
        last = gaps(outputs, self.fresh(probes.turned.replaced), unit, row=-1)
        among = [max(pair, key=lambda g: g.ratio) for pair in zip(first, last, strict=True)]
        moved = (
            among if any(g.is_real for g in among) else [worst(g) for g in zip(*fewer, strict=True)]
        )
        against = gap(outputs, predicted or outputs, unit)
        return replace(
            self._measured(worst(among), against, changed, carried),
            alone=worst(g for each in fewer for g in each) if fewer else None,
            at_last_row=worst(last).ratio > worst(first).ratio,
            repeat=repeat,
            noise=noise,
            goes_on=goes_on and not repeat.is_real,
            moved=self._named(moved),
        )

    def _fewer(self, probes: Probes) -> list[list[Gap]]:
        """Row 0 in each smaller batch against row 0 among all, by output."""
        if probes.alone is None:
            return []
        sizes = sorted({*probes.sizes} - {probes.rows})
        shorter = [probes.alone, *(probes.first(n).x for n in sizes)]
        return [gaps(self.outputs, self.fresh(x), self.unit, row=0) for x in shorter]

    def _measured(
        self, coupling: Gap, against: Gap, changed: tuple[str, ...], carried: tuple[str, ...]
    ) -> Measurement:
        return Measurement(
            entry_point=self.name,
            alone=None,
            coupling=coupling,
            repeat=coupling,
            against_predict=against,
            changed=changed,
            carried=carried,
            finite=all(_is_finite(output) for output in self.outputs),
        )

    def _named(self, moved: list[Gap]) -> tuple[str, ...]:
        """Names of the outputs that move, where there are several."""
        if len(self.labels) < 2:
            return ()
        pairs = zip(self.labels, moved, strict=False)
        return tuple(label for label, found in pairs if found.is_real)

    # --- calls -------------------------------------------------------------------------------

    def fresh(self, x: Any) -> Arrays:
        """The outputs for `x`, from the weights, states and seeds that the model came with."""
        self.memory.put_back()
        return self.run(x)

    def run(self, x: Any) -> Arrays:
        try:
            with self.adapter.inference():
                outputs = self.call(map_leaves(self.adapter.fed, x))
            flat = self.adapter.flatten(outputs)
            self.labels = self.labels or self.adapter.output_labels(self.model, outputs)
            return [np.asarray(self.adapter.to_numpy(leaf)) for leaf in flat]
        except BnfixError:
            raise
        except Exception as error:
            raise ModelError(
                f"{self.model.name} cannot be run through {self.name}: {gist(error)}. "
                f"{self._compiled_alone if self._runs_uncompiled(x) else _ANYWHERE}"
            ) from error

    def _runs_uncompiled(self, x: Any) -> bool:
        try:
            uncompiled = self.adapter.uncompiled(), self.adapter.inference_thread()()
            with uncompiled[0], uncompiled[1], warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # that tf.data stays compiled
                self.call(map_leaves(self.adapter.fed, x))
        except Exception:  # whatever it is, it is no matter of compiling
            return False
        return True

    @property
    def _compiled_alone(self) -> str:
        """What to do about a model that does not run in one way alone."""
        return (
            "Uncompiled it runs. Code that goes by values needs compile(run_eagerly=True); if it "
            f"is the compiler that fails, {self.adapter.backend.uncompiling}, or try bnfix.fold."
        )


#: What to do about a model that runs in none.
_ANYWHERE = "Pass x as you pass it to predict."


def _is_finite(output: Any) -> bool:
    return output.dtype.kind not in "fc" or bool(np.isfinite(output).all())
