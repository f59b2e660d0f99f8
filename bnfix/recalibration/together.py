"""Several processes re-estimate the statistics of one model, each with a part of the data.

Each works on a model of its own, outside of the strategy, so that nothing but a meeting waits for
the others: not a loss, not a read of a variable that is spread over the workers. When all have come
to their end, and only then, the statistics are written into the model that was given.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import Any

import numpy as np

from bnfix import __version__
from bnfix.adapters import weights
from bnfix.adapters.base import Adapter
from bnfix.adapters.copied import untrained
from bnfix.adapters.fingerprint import fingerprint
from bnfix.data.batches import first_rows
from bnfix.recalibration.commit import committed
from bnfix.recalibration.estimate import ENGINES
from bnfix.recalibration.meeting import Together
from bnfix.recalibration.procedure import Options, read, recalibrated
from bnfix.recalibration.statistics import RecalibrationReport
from bnfix.workers import Workers


def together(
    adapter: Adapter, model: Any, workers: Workers, ds: Any, options: Options
) -> RecalibrationReport:
    """As `recalibrate`, which every one of `workers` has called.

    Raises:
        WorkerError: One of them failed, is gone, or does something else; no model is changed.
    """

    def work() -> tuple[RecalibrationReport, list[Any]]:
        meeting = _meeting(adapter, model, workers, options)
        with meeting.attended():
            stream = read(ds, options)
            first = list(islice(stream, 1))
            x = first_rows(first, 1)  # by which code is built that goes by values
            # Without data nothing is run, and there is nothing to keep apart.
            twin = untrained(adapter, model, "recalibrate", x=x).model if first else model
            report = recalibrated(adapter, twin, chain(first, stream), options, meeting)
            made = dict(adapter.batch_norms(twin))
            found = [weights.read_statistics(made[row.path]) for row in report.layers]
        meeting.gathered(np.zeros(0), at="all is done")
        return report, found

    report, found = adapter.outside_of_strategies(work)
    if not report.kept:
        return report
    norms = dict(adapter.batch_norms(model))
    updates = [(norms[row.path], *new) for row, new in zip(report.layers, found, strict=True)]
    with committed(adapter, updates) as keep:
        keep()
    return report


def _meeting(adapter: Adapter, model: Any, workers: Workers, options: Options) -> Together:
    norms = {path: layer for path, layer in adapter.batch_norms(model) if layer.built}
    # Between two syncs every worker has statistics of its own, which are about to be replaced.
    own = {id(one) for layer in norms.values() for one in weights.statistics(layer)}
    trained = [one for one in adapter.weights(model) if id(one) not in own]
    facts = {
        "version of bnfix": __version__,
        "layers": repr(list(norms)),
        "weights": fingerprint(adapter, trained),
        "options": _told(options),
    }
    channels = {path: weights.channels(layer) for path, layer in norms.items()}
    return Together(workers, facts, channels, ENGINES)


def _told(options: Options) -> str:
    """What decides on the statistics; how the data comes is the matter of each worker."""
    o = options
    layers = "a function" if callable(o.layers) else o.layers
    judged = o.guard, o.metric is None
    return repr((o.method, layers, o.include_frozen, o.min_count, o.ddof, judged))
