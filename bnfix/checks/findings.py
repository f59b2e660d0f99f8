"""From measurements to causes: which layers are to blame, for what, and what follows from that?"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from bnfix.adapters.subject import Subject
from bnfix.checks import causes
from bnfix.checks.cause import Cause
from bnfix.checks.check_report import Finding
from bnfix.checks.compiled import off
from bnfix.checks.cures import NO_BATCH, Cures
from bnfix.checks.localise import Trace
from bnfix.checks.measure import EntryPoints, Meter
from bnfix.checks.measurement import EXPORT, LayerGap, Measurement, worst
from bnfix.checks.probes import Probes
from bnfix.checks.training import ENTRY_POINT
from bnfix.errors import gist
from bnfix.numerics.tolerance import SAFETY


class Blame:
    """The findings of one check.

    Attributes:
        consequences: What was seen as well, and goes with what `findings` names.
        notes: What could not be found out.
    """

    def __init__(
        self,
        subject: Subject,
        probes: Probes,
        points: EntryPoints,
        measurements: tuple[Measurement, ...],
    ) -> None:
        self.subject, self.probes = subject, probes
        self.adapter, self.model = subject
        self.points, self.measurements = points, measurements
        self.dtype = self.adapter.rounding_dtype(self.model)
        self.cures = Cures(subject)
        self.consequences: tuple[Finding, ...] = ()
        self.notes: list[str] = []
        self._follow: list[Finding] = []
        self._traces: dict[tuple[bool | None, bool], Trace | None] = {}

    def findings(self) -> tuple[Finding, ...]:
        """The causes, each once: the rest is in `consequences`."""
        found: list[Finding] = []
        for training, points in self._by_mode().items():
            if any(point.is_suspicious for point in points):
                found += self._blamed(training, points)
        found += self._disagreement(found)
        self.consequences = tuple(sorted(_merged(self._follow), key=self._order))
        found = sorted(_merged(found), key=self._order)
        return tuple(found or causes.rounding(self.measurements, self.dtype))

    def layers(self) -> tuple[LayerGap, ...]:
        """How far each layer is moved where most is; empty where no layer was watched."""
        traces = [trace for trace in self._traces.values() if trace is not None]
        found = [moved for trace in traces if (moved := trace.gaps())]
        return max(found, key=lambda each: worst(one.gap for one in each).ratio, default=())

    def _by_mode(self) -> dict[bool | None, list[Measurement]]:
        """Entry points by the `training` that they pass on; None leaves it to the model."""
        passed = False if self.adapter.predict_passes_training(self.model) else None
        known = {"predict": passed, ENTRY_POINT: True}
        modes: dict[bool | None, list[Measurement]] = {}
        for measurement in self.measurements:
            mode = known.get(measurement.entry_point)
            if measurement.entry_point == EXPORT and not measurement.tells:
                mode = False  # some files are written in inference mode
            modes.setdefault(mode, []).append(measurement)
        return modes

    def _order(self, finding: Finding) -> tuple[bool, int, int]:
        traces = [trace for trace in self._traces.values() if trace is not None]
        position = min((t.position(finding.path) for t in traces), default=0)
        return finding.severity == "note", finding.cause.rank, position

    def _trace(self, training: bool | None, *, turned: bool = False) -> Trace | None:
        """What goes on inside; None where the layers cannot be watched."""
        key = training, turned
        if key not in self._traces:
            probes = self.probes.turned if turned else self.probes
            try:
                self._traces[key] = Trace(self.subject, probes, training)
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
        norms = self._of_norms(trace, points)
        found = norms + self._of_others(trace, points, {f.path for f in norms if f.path})
        found += self._of_memory(points, found)
        found += self._of_chance(trace, points)
        if training is None and trace is not None:
            found = self._of_defaults(trace, points, found)
        if not all(point.finite for point in points):
            paths = trace.not_finite()[:1] if trace else []
            found += [
                causes.nonfinite(path, points, self.cures.of_values(path))
                for path in paths or [self.model.name]
            ]
        if not found and any(point.alone and point.alone.is_real for point in points):
            found += self._of_batch_size(trace, points)
        return found

    def _of_norms(self, trace: Trace | None, points: list[Measurement]) -> list[Finding]:
        if trace is None:
            return []
        changed = {path for point in points for path in point.changed}
        norms = self.adapter.batch_norms(self.model)
        ids = frozenset(id(layer) for path, layer in norms if path in changed)
        in_training = points[0].entry_point == ENTRY_POINT
        return [
            causes.batch_statistics(
                path, points, NO_BATCH if in_training else self.cures.of_mode(path)
            )
            for path in trace.by_batch_statistics(ids)
        ]

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
        # No layer does it, so it is what the model does between its layers.
        return [causes.batch_coupling(self.model.name, coupled)]

    def _of_memory(self, points: list[Measurement], known: list[Finding]) -> list[Finding]:
        """Layers that keep something from call to call.

        That weights are overwritten goes with a layer which follows the batch, as all `known` do,
        and with one whose answers go on from them.
        """
        cures = {f.path: causes.Cure(f.remedy, f.advice) for f in known}
        found: list[Finding] = []
        for path in dict.fromkeys(path for point in points for path in point.changed):
            if path in cures:
                self._follow.append(causes.changed(path, points, cures[path]))
                continue
            written = causes.changed(path, points, causes.assign_in_training(path))
            if any(point.goes_on for point in points):
                found.append(causes.counter(path, points))
                self._follow.append(written)
            else:
                found.append(written)
        carried = dict.fromkeys(path for point in points for path in point.carried)
        return found + [causes.state(path, points) for path in carried]

    def _of_chance(self, trace: Trace | None, points: list[Measurement]) -> list[Finding]:
        random = [point for point in points if point.repeat.is_real]
        if not random:
            return []
        paths = trace.random if trace else []
        if not paths:
            return [causes.randomness(None, random, causes.random_in_training("the model"))]
        return [causes.randomness(path, random, self.cures.of_chance(path)) for path in paths]

    def _of_defaults(
        self, trace: Trace, points: list[Measurement], found: list[Finding]
    ) -> list[Finding]:
        """`found`, with layers named that are in training mode by default for what they cause.

        That is what goes away under training=False, comes from a layer behind or inside of such a
        one, and is written nowhere.
        """
        leading = {f.path: self._leading(trace, f.path) for f in found if f.path}
        calm = self._trace(False) if any(leading.values()) else None
        if calm is None:
            return found
        left = {*calm.by_batch_statistics(frozenset()), *calm.coupled, *calm.random}
        by_default = [
            f
            for f in found
            if f.path and f.path not in left and not self.cures.is_baked(f.path)
            if leading[f.path]
        ]
        self._follow += by_default
        in_predict = any(point.entry_point == "predict" for point in points)
        leaders = dict.fromkeys(path for f in by_default for path in leading[f.path or ""])
        return [f for f in found if f not in by_default] + [
            causes.training_by_default(
                path,
                points,
                self.cures.of_default(path, in_predict=in_predict),
                everywhere=self.adapter.trains_unless_told(),
            )
            for path in leaders
        ]

    def _leading(self, trace: Trace, path: str) -> list[str]:
        return trace.leading(path) or self.cures.leading(path)

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
        return Meter(self.subject, self.points)

    # --- all entry points --------------------------------------------------------------------

    def _disagreement(self, found: list[Finding]) -> list[Finding]:
        """What differs between ways of calling, unless it goes with something found already."""
        apart = [point for point in self.measurements if point.against_predict.is_real]
        if not apart or any(point.repeat.is_real for point in self.measurements):
            return []
        in_predict, in_call = self._trace(False), self._trace(None)
        paths = in_predict.differs_from(in_call) if in_predict and in_call else []
        known = {finding.path for finding in (*found, *self._follow)}
        spoilt = any(finding.cause is Cause.NONFINITE for finding in found)
        if found and (spoilt or not paths or paths[0] in known):
            path = paths[0] if paths else None
            self._follow.append(causes.disagreement(path, apart, causes.Cure()))
            return []
        if paths:
            return [causes.disagreement(paths[0], apart, self.cures.of_mode(paths[0]))]
        if all(p.against_predict.difference <= SAFETY * self._response for p in apart):
            return [causes.amplified(apart, self.dtype, self._response)]
        wrong = off(self.subject, self.points, self.probes.x)
        if wrong:
            return [causes.miscompiled(wrong, self.adapter.backend.uncompiling)]
        cure = causes.unexplained(self.adapter.backend.uncompiling)
        return [causes.disagreement(None, apart, cure)]


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
