"""From measurements to causes: which layers are to blame, for what, and what mends it?"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

from bnfix.adapters.base import Adapter
from bnfix.adapters.reading import readable
from bnfix.checks import causes
from bnfix.checks.compiled import off
from bnfix.checks.localise import Trace
from bnfix.checks.measure import EntryPoints, Meter
from bnfix.checks.probes import Probes
from bnfix.checks.report import NO_CALL, Finding, Measurement
from bnfix.checks.training import ENTRY_POINT
from bnfix.errors import gist
from bnfix.numerics.tolerance import SAFETY

#: Layers that make rows depend on each other first, in the order in which they run; then what may
#: follow from them, and symptoms last.
_RANK = {
    "batch_statistics": 0,
    "batch_coupling": 0,
    "stale_function": 1,
    "state": 2,
    "inference_changes_weights": 3,
    "randomness": 4,
    "nonfinite": 5,
    "batch_size": 6,
    "entry_points_disagree": 7,
    "rounding": 8,
}


#: What entry points pass on as `training`; the others leave it to the model.
_PASSES = {"predict": False, ENTRY_POINT: True}

#: What frees training from the batch.
_NO_BATCH = "model = bnfix.to_group_norm(model, x)  # and train on"


class Blame:
    """The findings of one check.

    Attributes:
        notes: What could not be found out.
    """

    def __init__(
        self,
        adapter: Adapter,
        model: Any,
        probes: Probes,
        points: EntryPoints,
        measurements: tuple[Measurement, ...],
    ) -> None:
        self.adapter, self.model, self.probes = adapter, model, probes
        self.points, self.measurements = points, measurements
        self.dtype = adapter.rounding_dtype(model)
        self.notes: list[str] = []
        self._traces: dict[tuple[bool | None, bool], Trace | None] = {}

    def findings(self) -> tuple[Finding, ...]:
        found: list[Finding] = []
        for training, points in self._by_mode().items():
            if any(point.is_suspicious for point in points):
                found += self._blamed(training, points)
        found += self._disagreement()
        found = sorted(_merged(found), key=self._order)
        return tuple(found or causes.rounding(self.measurements, self.dtype))

    def _by_mode(self) -> dict[bool | None, list[Measurement]]:
        """Entry points by the `training` that they pass on."""
        modes: dict[bool | None, list[Measurement]] = {}
        for measurement in self.measurements:
            modes.setdefault(_PASSES.get(measurement.entry_point), []).append(measurement)
        return modes

    def _order(self, finding: Finding) -> tuple[int, int]:
        traces = [trace for trace in self._traces.values() if trace is not None]
        return _RANK[finding.cause], min((t.position(finding.path) for t in traces), default=0)

    def _trace(self, training: bool | None, *, turned: bool = False) -> Trace | None:
        """What goes on inside; None where the layers cannot be watched."""
        key = training, turned
        if key not in self._traces:
            probes = self.probes.turned if turned else self.probes
            try:
                self._traces[key] = Trace(self.adapter, self.model, probes, training)
            except Exception as error:  # whatever it is, the measurements stand without it
                self._traces[key] = None
                self.notes.append(
                    f"no layer is named, for they could not be watched: {gist(error)}"
                )
        return self._traces[key]

    # --- one mode ----------------------------------------------------------------------------

    def _blamed(self, training: bool | None, points: list[Measurement]) -> list[Finding]:
        turned = any(point.at_last_row for point in points if point.coupling.difference > 0)
        trace = self._trace(training, turned=turned)
        found = self._of_norms(trace, points)
        norms = {finding.path for finding in found if finding.path}
        found += self._of_others(trace, points, norms)
        for path in dict.fromkeys(path for point in points for path in point.changed):
            mend = self._mend(path) if path in norms else causes.assign_in_training(path)
            found.append(causes.changed(path, points, mend))
            if path not in norms and any(point.goes_on for point in points):
                found.append(causes.counter(path, points))
        for path in dict.fromkeys(path for point in points for path in point.carried):
            found.append(causes.state(path, points))
        found += self._of_chance(trace, points)
        if not all(point.finite for point in points):
            paths = trace.not_finite()[:1] if trace else []
            found += [
                causes.nonfinite(path, points, self._cure(path))
                for path in paths or [self.model.name]
            ]
        if not found and any(point.alone and point.alone.is_real for point in points):
            found += self._of_batch_size(trace, points)
        return found

    def _of_batch_size(self, trace: Trace | None, points: list[Measurement]) -> list[Finding]:
        """Code that uses the length of the batch, or a network that amplifies rounding."""
        apart = [point for point in points if point.alone and point.alone.is_real]
        path = trace.by_length() if trace else None
        if path is None:
            allowed = SAFETY * self._response
            if all(p.alone and p.alone.difference <= allowed for p in apart):
                return [causes.amplified(apart, self.dtype, self._response)]
        return [causes.batch_size(path or self.model.name, apart)]

    @cached_property
    def _response(self) -> float:
        """How far a row moves when each weight is off by one rounding error."""
        with self.adapter.untouched(self.model):
            return self._meter().response(self.probes)

    def _meter(self) -> Meter:
        return Meter(self.adapter, self.model, self.points)

    def _of_norms(self, trace: Trace | None, points: list[Measurement]) -> list[Finding]:
        if trace is None:
            return []
        changed = {path for point in points for path in point.changed}
        norms = self.adapter.batch_norms(self.model)
        ids = frozenset(id(layer) for path, layer in norms if path in changed)
        paths = trace.by_batch_statistics(ids)
        mend = _NO_BATCH if points[0].entry_point == ENTRY_POINT else None
        return [causes.batch_statistics(path, points, mend or self._mend(path)) for path in paths]

    def _of_others(
        self, trace: Trace | None, points: list[Measurement], norms: set[str]
    ) -> list[Finding]:
        """Layers other than BatchNormalization that mix rows; what noise hides is not guessed."""
        coupled = [point for point in points if point.coupling.difference > 0]
        if not coupled or any(point.noise for point in points):
            return []
        paths = trace.mixing(norms) if trace else []
        if paths or norms or not any(point.is_coupled for point in coupled):
            return [causes.batch_coupling(path, coupled) for path in paths]
        # No layer does it: old compiled code, or what the model does between its layers.
        if self._is_stale(points):
            return [causes.stale_function(coupled)]
        return [causes.batch_coupling(self.model.name, coupled)]

    def _is_stale(self, points: list[Measurement]) -> bool:
        """Whether `predict` goes by flags of the time when it was compiled."""
        adapter, model = self.adapter, self.model
        predicts = any(point.entry_point == "predict" for point in points)
        if not predicts:
            return False
        with adapter.functions_kept(model), adapter.untouched(model):
            adapter.forget_functions(model)
            anew = self._meter().points[0].pair(self.probes)
        return not anew.is_coupled

    def _of_chance(self, trace: Trace | None, points: list[Measurement]) -> list[Finding]:
        random = [point for point in points if point.repeat.is_real]
        if not random:
            return []
        paths = trace.random() if trace else []
        if not paths:
            return [causes.randomness(None, random, causes.random_in_training("the model"))]
        return [causes.randomness(path, random, self._calm(path)) for path in paths]

    # --- all entry points --------------------------------------------------------------------

    def _disagreement(self) -> list[Finding]:
        apart = [point for point in self.measurements if point.against_predict.is_real]
        if not apart or any(point.repeat.is_real for point in self.measurements):
            return []
        in_predict, in_call = self._trace(False), self._trace(None)
        paths = in_predict.differs_from(in_call) if in_predict and in_call else []
        if not paths and all(
            p.against_predict.difference <= SAFETY * self._response for p in apart
        ):
            return [causes.amplified(apart, self.dtype, self._response)]
        if not paths:
            wrong = off(self.adapter, self.model, self.points, self.probes.x)
            if wrong:
                return [causes.miscompiled(wrong)]
            return [causes.disagreement(None, apart, causes.REPORT)]
        return [causes.disagreement(paths[0], apart, self._mend(paths[0]))]

    # --- what mends it -----------------------------------------------------------------------

    def _mend(self, path: str) -> str:
        if self._is_baked(path):
            return "model = bnfix.strip_training(model)  # or in place: bnfix.freeze(model)"
        if any(path == norm for norm, _ in self.adapter.batch_norms(self.model)):
            return "bnfix.freeze(model)"
        return f"{NO_CALL}let {path} do the same under training=None as under training=False"

    def _cure(self, path: str) -> str:
        """What to do about a layer that makes numbers infinite."""
        if any(path == norm for norm, _ in self.adapter.batch_norms(self.model)):
            return f'model = bnfix.recalibrate(model, x, layers="{path}")'
        return f"{NO_CALL}look at the weights of {path}"

    def _calm(self, path: str) -> str:
        if not self._is_baked(path):
            return causes.random_in_training(path)
        strip = f'model = bnfix.strip_training(model, layers=["{path}"])'
        return f"{strip}  # unless it is wanted, as for Monte Carlo dropout"

    def _is_baked(self, path: str) -> bool:
        """Whether `training=True` is written into the call at `path` or into one around it."""
        return any(path == call or path.startswith(f"{call}/") for call in self._baked)

    @cached_property
    def _baked(self) -> tuple[str, ...]:
        reading = readable(self.adapter, self.model)
        if reading is None:
            return ()
        return tuple(call.path for call in reading.graph if call.training)


def _merged(findings: list[Finding]) -> list[Finding]:
    """One finding per layer and cause, naming all its entry points."""
    merged: dict[tuple[str | None, str], Finding] = {}
    for finding in findings:
        key = finding.path, finding.cause
        if key in merged:
            both = f"{merged[key].entry_point}, {finding.entry_point}"
            merged[key] = replace(merged[key], entry_point=both)
        else:
            merged[key] = finding
    return list(merged.values())
