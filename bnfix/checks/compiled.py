"""Which entry points of a model answer otherwise than its uncompiled code does?

Where compiled and uncompiled code differ, a copy in float64 decides who is right: that is a
precision in which no fast path is taken. It does not where compiled and uncompiled code differ in
it as well, nor where there is none.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from bnfix.adapters.reading import Reading
from bnfix.adapters.rebuilding import rebuild
from bnfix.adapters.subject import Subject
from bnfix.checks.gaps import Arrays, gap
from bnfix.checks.measure import EntryPoints, Meter
from bnfix.checks.measurement import Gap
from bnfix.graph.edit import Edit
from bnfix.numerics.tolerance import rounding


def off(subject: Subject, points: EntryPoints, x: Any) -> dict[str, Gap]:
    """By name, the entry points that are off, and how far; none where that cannot be told.

    Args:
        subject: Its model is left as it is.
        points: The ways of calling it.
        x: Inputs.
    """
    adapter, model = subject
    with adapter.untouched(model):
        meter = Meter(subject, points)
        answers = {point.name: (point, point.fresh(x)) for point in meter.points}
        right = _in_float64(subject, x)
    if right is None:
        return {}
    found = {name: gap(answer, right, point.unit) for name, (point, answer) in answers.items()}
    return {name: each for name, each in found.items() if each.is_real}


def _in_float64(subject: Subject, x: Any) -> Arrays | None:
    """What a copy in float64 answers, compiled or not; None where it gives no one answer."""
    adapter, model = subject
    if not adapter.has_graph(model):
        return None
    try:
        with adapter.backend.float64():
            with adapter.uncompiled():
                twin = rebuild(Reading(subject), Edit(), dtype="float64").model
                right = adapter.infer(twin, x)
            compiled = adapter.compiled(partial(twin, training=False), any_rows=False)
            made = [adapter.to_numpy(leaf) for leaf in adapter.flatten(compiled(x))]
    except Exception:  # whatever the code of a model raises where it is run in another way
        return None
    return None if gap(right, made, rounding("float32", 1, 1.0)).is_real else right
