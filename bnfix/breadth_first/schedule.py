"""In which order to run a model breadth-first, and how long each tensor must be kept.

A BatchNormalization can only normalize once its statistics are known, and these are known once all
batches have reached it. So the calls fall into stages: run everything that the known statistics
allow, measure the inputs of the BNs that stop it, go on with these. Several calls of one BN pool
their values, so it waits until all of them are reached.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bnfix.graph.definition import LayerKey
from bnfix.graph.graph import Call, Graph, Value


@dataclass(frozen=True)
class Stage:
    """What is done with each batch before the next statistics are settled.

    Attributes:
        calls: To run, in this order.
        measures: BN calls whose inputs are measured then; later stages may run these calls.
        reads: Values made earlier that `calls` and `measures` need.
        keeps: Values made here that later stages read.
        frees: Values among `reads` that no later stage reads.
    """

    calls: tuple[Call, ...]
    measures: tuple[Call, ...]
    reads: tuple[Value, ...]
    keeps: tuple[Value, ...]
    frees: tuple[Value, ...]


@dataclass(frozen=True)
class Schedule:
    """All stages, and the paths of BNs of which one call feeds another."""

    stages: tuple[Stage, ...]
    chained: tuple[str, ...]


def schedule(graph: Graph, norms: Iterable[LayerKey]) -> Schedule:
    """The stages that measure the BNs with the keys `norms`; what no BN depends on is left out."""
    measured = frozenset(norms)
    steps, chained = _steps(graph, measured)
    last_read: dict[Value, int] = {}
    for number, (calls, measures) in enumerate(steps):
        for value in _inputs(calls, measures):
            last_read[value] = number
    stages: list[Stage] = []
    for number, (calls, measures) in enumerate(steps):
        made = {value for call in calls for value in call.outputs}
        reads = [value for value in _inputs(calls, measures) if value not in made]
        keeps = [v for call in calls for v in call.outputs if last_read.get(v, -1) > number]
        frees = [value for value in reads if last_read[value] == number]
        stages.append(
            Stage(tuple(calls), tuple(measures), tuple(reads), tuple(keeps), tuple(frees))
        )
    return Schedule(tuple(stages), tuple(chained))


_Steps = list[tuple[list[Call], list[Call]]]


def _steps(graph: Graph, norms: frozenset[LayerKey]) -> tuple[_Steps, list[str]]:
    wanted = _ancestors(graph, norms)
    pending = [
        call
        for call in graph
        if (call.index in wanted or call.layer in norms) and call.outputs[0] not in graph.inputs
    ]
    known: set[Value] = set(graph.inputs)
    settled: set[int] = set()  # indices of BN calls that have been measured
    steps: _Steps = []
    chained: list[str] = []
    while pending:
        calls, pending = _advance(pending, known, norms, settled)
        measures = _next_measures(pending, known, norms, chained)
        if not measures:
            break
        steps.append((calls, measures))
        settled.update(call.index for call in measures)
        pending = [call for call in pending if call.index not in settled or call.index in wanted]
    return steps, chained


def _advance(
    pending: list[Call], known: set[Value], norms: frozenset[LayerKey], settled: set[int]
) -> tuple[list[Call], list[Call]]:
    """What can run now, its results added to `known`, and what must wait."""
    calls: list[Call] = []
    waiting: list[Call] = []
    for call in pending:
        blocked = call.layer in norms and call.index not in settled
        if blocked or not known.issuperset(call.reads):
            waiting.append(call)
        else:
            calls.append(call)
            known.update(call.outputs)
    return calls, waiting


def _next_measures(
    pending: list[Call], known: set[Value], norms: frozenset[LayerKey], chained: list[str]
) -> list[Call]:
    """The calls of every BN that is reached by all its calls; else of the first that is reached."""
    reached = [c for c in pending if c.layer in norms and known.issuperset(c.reads)]
    missed = {c.layer for c in pending if c.layer in norms} - {c.layer for c in reached}
    missed |= {c.layer for c in pending if c.layer in norms and not known.issuperset(c.reads)}
    complete = [call for call in reached if call.layer not in missed]
    if complete or not reached:
        return complete
    first = reached[0]
    if first.path not in chained:
        chained.append(first.path)
    return [call for call in reached if call.layer == first.layer]


def _ancestors(graph: Graph, norms: frozenset[LayerKey]) -> set[int]:
    """Indices of the calls on whose results the inputs of some BN in `norms` depend."""
    found: set[int] = set()
    for call in reversed(graph.calls):
        if call.layer in norms or call.index in found:
            found.update(value.call for value in call.reads)
    return found


def _inputs(calls: list[Call], measures: list[Call]) -> list[Value]:
    """What the calls read, each value once, in order."""
    return list(dict.fromkeys(value for call in [*calls, *measures] for value in call.reads))
