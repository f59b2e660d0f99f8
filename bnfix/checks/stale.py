"""Does `predict` go by what the model was when it was compiled?

A compiled function obeys the flags and attributes of the time when it was traced: it sees neither
that a layer was frozen afterwards nor that an activation was taken away. What is measured through
such a function tells of the model as it was, so the model is measured once more without.
"""

from __future__ import annotations

from dataclasses import replace

from bnfix.adapters.subject import Subject
from bnfix.checks import causes
from bnfix.checks.check_report import Finding
from bnfix.checks.gaps import gap
from bnfix.checks.measure import EntryPoints, Meter
from bnfix.checks.measurement import Measurement
from bnfix.checks.probes import Probes

Measurements = tuple[Measurement, ...]


def compiled_anew(
    subject: Subject, probes: Probes, points: EntryPoints, measured: Measurements
) -> tuple[Measurements, tuple[Finding, ...]]:
    """`measured` as it is once `predict` is compiled again, and a finding if it was stale.

    The compiled functions of the model are dropped; whoever calls this puts them back.

    Args:
        subject: A model that `predict` was called on before all this.
        probes: The inputs.
        points: The ways of calling it, `predict` first.
        measured: Through them as they were.
    """
    adapter, model = subject
    with adapter.untouched(model):
        meter = Meter(subject, points)
        predict = meter.points[0]
        old = predict.fresh(probes.x)
        adapter.forget_functions(model)
        anew = tuple(meter.all(probes))
    before, now = (
        measured[0],
        replace(anew[0], against_predict=gap(old, predict.outputs, predict.unit)),
    )
    return (anew, (causes.stale_function(before, now),)) if _differ(before, now) else (measured, ())


def _differ(before: Measurement, now: Measurement) -> bool:
    if _kept(before) != _kept(now):
        return True
    return now.against_predict.is_real and not now.repeat.is_real


def _kept(point: Measurement) -> tuple[object, ...]:
    """What a call is like, apart from its answers."""
    return point.repeat.is_real, point.changed, point.carried, point.finite
