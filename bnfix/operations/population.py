"""Statistics of the data at every BatchNormalization, and what they do to the loss.

The model is left as it is; statistics are put into it for the time of a measurement only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from bnfix.adapters.subject import Subject
from bnfix.data.batches import Batch, length
from bnfix.diagnosis.data_facts import DataFacts, Losses, Population
from bnfix.diagnosis.model_facts import ModelFacts
from bnfix.errors import Incomparable
from bnfix.graph.select import Selection
from bnfix.numerics.moments import ChannelMoments
from bnfix.progress import progress
from bnfix.recalibration.arrivals import Arrival, arrivals
from bnfix.recalibration.commit import committed
from bnfix.recalibration.meeting import Meeting
from bnfix.recalibration.procedure import Options, recalibrated
from bnfix.recalibration.statistics import LayerStatistics, RecalibrationReport
from bnfix.tree import map_leaves


def statistics_of(
    subject: Subject,
    data: list[Batch],
    verbose: int | str,
    meeting: Meeting,
    layers: Selection = None,
) -> RecalibrationReport:
    """The `RecalibrationReport` of `layers` over `data`; the model keeps its own statistics.

    Raises:
        BnfixError: As `recalibrate` does.
    """
    adapter, model = subject
    with adapter.functions_kept(model), adapter.preserved(model):
        return recalibrated(
            subject, (replace(batch, y=None, weight=None) for batch in data),
            Options(min_count=1, guard=False, verbose=verbose, layers=layers), meeting,
        )  # fmt: skip


def data_facts_of(
    subject: Subject,
    facts: ModelFacts,
    statistics: tuple[LayerStatistics, ...],
    data: list[Batch],
    verbose: int | str,
    meeting: Meeting,
) -> DataFacts:
    """What `data` tell about the model, whose statistics over them are known."""
    adapter, model = subject
    paths = dict(adapter.batch_norms(model))
    measured_rows = {row.path: row for row in statistics}
    updates = [
        (paths[path], row.mean, row.variance)
        for path, row in measured_rows.items()
        if path in paths
    ]
    shared = {n.path: paths[n.path] for n in facts.norms if n.calls > 1 and n.path in paths}
    losses, unused = None, None
    has_loss = adapter.is_compiled(model) and all(batch.y is not None for batch in data)
    has_loss = all(bool(said[0]) for said in meeting.gathered(np.array([has_loss]), at="labels"))
    with progress(2 * len(data) * has_loss, "comparing losses", verbose) as advance:
        try:
            stored = _loss(subject, data, advance, meeting) if has_loss else 0.0
        except Incomparable as reason:
            has_loss, stored, unused = False, 0.0, str(reason)
        with adapter.functions_kept(model), committed(adapter, updates), adapter.untouched(model):
            if has_loss:
                losses = Losses(stored, _loss(subject, data, advance, meeting))
            between = _between(subject, shared, data, meeting) if shared else {}
    layers = {
        path: Population(path, row.count, row.mean, row.variance, between.get(path, 0.0))
        for path, row in measured_rows.items()
    }
    here = np.array([sum(length(batch.x) for batch in data)], np.float64)
    rows = int(np.sum(meeting.gathered(here, at="rows")))
    return DataFacts(layers, rows, losses, unused)


def _loss(
    subject: Subject, data: list[Batch], advance: Callable[[], Any], meeting: Meeting
) -> float:
    """Mean over all rows, in inference mode; nothing that it changes stays.

    Raises:
        Incomparable: There is none, here or at another worker.
    """
    adapter, model = subject
    total, number, reason = 0.0, 0, None
    with adapter.functions_kept(model), adapter.untouched(model):
        for batch in data:
            rows = length(batch.x)
            try:
                total += rows * adapter.loss(model, batch.x, batch.y, batch.weight)
            except Incomparable as found:
                reason = found
                break
            number += rows
            advance()
    told = meeting.gathered(np.array([total, number, reason is not None]), at="a loss")
    total, number, failed = np.sum(told, axis=0)
    if failed:
        raise reason or Incomparable("that of another worker gives none")
    return float(total / number)


def _between(
    subject: Subject, norms: dict[str, Any], data: list[Batch], meeting: Meeting
) -> dict[str, float]:
    """By path, the share of the variance between a layer's calls, mean over channels."""
    adapter, model = subject
    pooled: dict[tuple[str, int], ChannelMoments] = {}
    for batch in data:
        calls: Counter[str] = Counter()

        def arrive(arrival: Arrival, calls: Counter[str] = calls) -> None:
            key = arrival.path, calls[arrival.path]
            calls[arrival.path] += 1
            pooled.setdefault(key, ChannelMoments(arrival.moments.mean.size)).absorb(
                arrival.moments
            )

        with arrivals(adapter, norms, arrive):
            adapter.infer(model, map_leaves(adapter.fed, batch.x))
    shares: dict[str, float] = {}
    for path in norms:
        own = np.array([float(sum(of == path for of, _ in pooled))])
        number = int(np.max(meeting.gathered(own, at=f"calls of {path}")))
        by_call = [
            meeting.merged({path: pooled[path, n]} if (path, n) in pooled else {}, at=f"call {n}")
            for n in range(number)
        ]
        if by_call:
            shares[path] = _share([call[path] for call in by_call])
    return shares


def _share(calls: list[ChannelMoments]) -> float:
    total = ChannelMoments(calls[0].mean.size)
    within = np.zeros_like(total.mean)
    for call in calls:
        total.merge(call.counts, call.mean, call.variance())
        within += call.variance() * call.counts
    variance = np.maximum(total.variance() * total.counts, np.finfo(np.float64).tiny)
    return float(np.mean(1.0 - within / variance))
