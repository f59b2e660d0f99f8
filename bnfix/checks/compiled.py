"""Which entry points of a model answer otherwise than its uncompiled code does?

Where compiled and uncompiled code differ, uncompiled code in float64 decides who is right: it is
made of single operations, each tested by itself, in a precision that no fast path is taken in.
"""

from __future__ import annotations

from typing import Any

from bnfix.adapters.base import Adapter
from bnfix.adapters.reading import Reading
from bnfix.adapters.rebuilding import rebuild
from bnfix.checks.check_report import Gap
from bnfix.checks.gaps import Arrays, gap
from bnfix.checks.measure import EntryPoints, Meter
from bnfix.graph.edit import Edit


def off(adapter: Adapter, model: Any, points: EntryPoints, x: Any) -> dict[str, Gap]:
    """By name, the entry points that are off, and how far.

    Args:
        adapter: Of the model's Keras.
        model: It is left as it is.
        points: The ways of calling it.
        x: Inputs.
    """
    with adapter.untouched(model):
        meter = Meter(adapter, model, points)
        answers = {point.name: (point, point.fresh(x)) for point in meter.points}
        right = _in_float64(adapter, model, x) or _uncompiled(meter, x)
    found = {name: gap(answer, right, point.unit) for name, (point, answer) in answers.items()}
    return {name: each for name, each in found.items() if each.is_real}


def _in_float64(adapter: Adapter, model: Any, x: Any) -> Arrays | None:
    """What a copy in float64 answers; None where there is none."""
    if not adapter.has_graph(model):
        return None
    try:
        with adapter.backend.float64(), adapter.uncompiled():
            twin = rebuild(Reading(adapter, model), Edit(), dtype="float64").model
            return adapter.infer(twin, x)
    except Exception:  # whatever the code of a model raises where it is run in another way
        return None


def _uncompiled(meter: Meter, x: Any) -> Arrays:
    called = next(point for point in meter.points if point.name != "predict")
    with meter.points[0].adapter.uncompiled():
        return called.fresh(x)
