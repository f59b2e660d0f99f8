"""Several processes measure the statistics of one model, each with a part of the data.

Each works on a model of its own, outside of the strategy, so that nothing but a meeting waits for
the others: not a loss, not a read of a variable that is spread over the workers. When all have come
to their end, and only then, statistics are written into the model that was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np

from bnfix import __version__
from bnfix.adapters import weights
from bnfix.adapters.copied import untrained
from bnfix.adapters.fingerprint import of_trained
from bnfix.adapters.subject import Subject
from bnfix.data.batches import Batch, first_rows
from bnfix.numerics.moments import Floats
from bnfix.recalibration.commit import committed
from bnfix.recalibration.estimate import ENGINES
from bnfix.recalibration.meeting import Together
from bnfix.recalibration.procedure import Options, read, recalibrated
from bnfix.recalibration.statistics import RecalibrationReport
from bnfix.workers import Workers

T = TypeVar("T")

#: What a worker does with a model of its own, its batches, and the others.
Work = Callable[[Subject, Iterator[Batch], Together], T]


def together(subject: Subject, workers: Workers, ds: Any, options: Options) -> RecalibrationReport:
    """As `recalibrate`, which every one of `workers` has called.

    Raises:
        WorkerError: One of them failed, is gone, or does something else; no model is changed.
    """
    adapter, model = subject

    def work(
        twin: Subject, stream: Iterator[Batch], meeting: Together
    ) -> tuple[RecalibrationReport, list[tuple[Floats, Floats]]]:
        report = recalibrated(twin, stream, options, meeting)
        made = dict(adapter.batch_norms(twin.model))
        return report, [weights.read_statistics(made[row.path]) for row in report.layers]

    report, found = on_every_worker(
        subject,
        workers,
        lambda: read(workers.own_part(ds), options),
        work,
        {"options": _told(options)},
    )
    if not report.kept:
        return report
    norms = dict(adapter.batch_norms(model))
    updates = [(norms[row.path], *new) for row, new in zip(report.layers, found, strict=True)]
    with committed(adapter, updates) as keep:
        keep()
    return report


def on_every_worker(
    subject: Subject,
    workers: Workers,
    batches: Callable[[], Iterator[Batch]],
    work: Work[T],
    facts: Mapping[str, str],
) -> T:
    """What `work` returns, once all workers have come to its end.

    Args:
        subject: As it is before when this returns.
        workers: All of them.
        batches: Those of this one, read when it is called.
        work: What is to be done.
        facts: What has to be the same for all, beside the model.

    Raises:
        WorkerError: A worker failed, is gone, or does something else.
    """
    adapter, model = subject
    norms = {path: layer for path, layer in adapter.batch_norms(model) if layer.built}
    channels = {path: weights.channels(layer) for path, layer in norms.items()}
    meeting = Together(workers, channels, ENGINES)

    def apart() -> T:
        with meeting.attended():
            meeting.compare({**_facts(subject, norms), **facts})
            stream = batches()
            first = list(islice(stream, 1))
            x = first_rows(first, 1)  # by which code is built that goes by values
            # Without data nothing is run, and there is nothing to keep apart.
            twin = Subject(adapter, untrained(subject, "bnfix", x=x).model) if first else subject
            with adapter.preserved(twin.model):
                _equalize(twin, meeting)
                result = work(twin, chain(first, stream), meeting)
            meeting.gathered(np.zeros(0), at="all is done")
        return result

    try:
        return adapter.outside_of_strategies(apart)
    except BaseException:
        meeting.cancelled.set()  # else the others would write what this one does not
        raise


def _facts(subject: Subject, norms: Mapping[str, Any]) -> dict[str, str]:
    # Between two syncs every worker has statistics of its own, so they are left out.
    return {
        "version of bnfix": __version__,
        "layers": repr(list(norms)),
        "weights": of_trained(subject),
    }


def _equalize(subject: Subject, meeting: Together) -> None:
    """Give all workers the mean of their statistics, which is what Keras reads them as."""
    adapter, model = subject
    norms = [layer for _, layer in adapter.batch_norms(model) if layer.built]
    held = [weights.read_statistics(layer) for layer in norms]
    ours = np.concatenate([part for pair in held for part in pair]) if held else np.zeros(0)
    mean = np.concatenate(
        [np.zeros(0), *(np.mean(told, axis=0) for told in meeting.gathered_in_parts(ours))]
    )
    updates, at = list[tuple[Any, Floats, Floats]](), 0
    for layer, (old, _) in zip(norms, held, strict=True):
        updates.append((layer, mean[at : at + old.size], mean[at + old.size : at + 2 * old.size]))
        at += 2 * old.size
    with committed(adapter, updates) as keep:
        keep()


def _told(options: Options) -> str:
    """What decides on the statistics; how the data comes is the matter of each worker."""
    o = options
    layers = "a function" if callable(o.layers) else o.layers
    judged = o.guard, o.metric is None
    return repr((o.method, layers, o.include_frozen, o.min_count, o.ddof, judged))
