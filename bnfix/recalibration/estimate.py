"""Measure what every BatchNormalization would have to hold, and change nothing.

Which engine does it: `exact` where the graph shows every call, `lockstep` where it does not, both
exact; `streaming` on request, for data that cannot be held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bnfix.adapters.base import Adapter
from bnfix.adapters.reading import Reading
from bnfix.errors import OptionError
from bnfix.graph.definition import LayerKey, TensorSpec
from bnfix.numerics.moments import ChannelMoments
from bnfix.progress import progress
from bnfix.recalibration.exact import ExactEngine, row_bytes
from bnfix.recalibration.loading import Loaded, as_inputs
from bnfix.recalibration.lockstep import LockstepEngine
from bnfix.recalibration.memory import Need, Store, check_room, need
from bnfix.recalibration.pieces import TRACING_PAYS_FROM, Piece, pieces
from bnfix.recalibration.schedule import Schedule, schedule
from bnfix.recalibration.sizing import AT_ONCE, rows_at_a_time
from bnfix.recalibration.streaming import StreamingEngine
from bnfix.recalibration.targets import in_graph

METHODS = ("exact", "streaming")


@dataclass(frozen=True)
class Estimate:
    """What was measured.

    Attributes:
        moments: Of what reaches each BatchNormalization, by path.
        engine: "exact", "lockstep" or "streaming".
        batches: Number of batches read.
        need: Memory that the graph implies; None where there is no graph.
        notes: What else the user should know.
    """

    moments: dict[str, ChannelMoments]
    engine: str
    batches: int
    need: Need | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        method: One of `METHODS`.
        ddof: Of the variance by which measured BNs normalize.
        memory_limit: Bytes that tensors may take in memory, or None.
        verbose: Whether progress is shown, as in Keras.
    """

    method: str = "exact"
    ddof: int = 0
    memory_limit: int | None = None
    verbose: int | str = "auto"


def estimate(
    adapter: Adapter,
    model: Any,
    norms: dict[str, Any],
    batches: Iterator[Loaded],
    settings: Settings,
) -> Estimate:
    """Moments of everything that reaches each of `norms` when `batches` run through `model`."""
    if settings.method == "exact" and adapter.has_graph(model):
        reading = Reading(adapter, model)
        keys = in_graph(reading, norms)
        if keys is not None:
            return _exact(reading, norms, keys, batches, settings)
    if settings.memory_limit is not None:
        raise OptionError(
            f"memory_limit needs a graph that shows every call of a BatchNormalization; "
            f"{model.name} hides some in its code. Leave memory_limit out, or pass "
            'method="streaming", which holds one batch at a time. Nothing was changed.'
        )
    without_graph = _lockstep if settings.method == "exact" else _streaming
    return without_graph(adapter, model, norms, batches, settings)


# --- with a graph ------------------------------------------------------------------------------


def _exact(
    reading: Reading,
    norms: dict[str, Any],
    keys: dict[LayerKey, str],
    batches: Iterator[Loaded],
    settings: Settings,
) -> Estimate:
    adapter, plan = reading.adapter, schedule(reading.graph, keys)
    first = next(batches)
    sizes = row_bytes(reading, plan, first.flat)
    rows = rows_at_a_time(reading, plan, sizes, settings.memory_limit)
    with ExitStack() as held:
        store = _store(adapter, settings.memory_limit, held)
        engine = ExactEngine(reading, plan, ddof=settings.ddof, store=store)
        entered: list[Piece] = []
        for piece in pieces(chain([first], batches), rows[0] if rows else None):
            if not entered and store.limit is not None:
                working = need(plan, sizes, rows=0, at_once=_under_way(rows, piece.rows)).working
                store.limit = max(store.limit - working, 0)
            entered.append(engine.enter(len(entered), piece))
        total, widest = (take(piece.rows for piece in entered) for take in (sum, max))
        at_once = [min(some, total) for some in _under_way(rows, widest)]
        wanted = need(plan, sizes, rows=total, at_once=at_once)
        if settings.memory_limit is not None and store.folder is not None:
            check_room(wanted, settings.memory_limit, store.folder)
        steps = len(plan.stages) * total
        advance = held.enter_context(progress(steps, "recalibrating", settings.verbose))
        held.enter_context(adapter.preserved(reading.model))
        engine.run(entered, advance, rows=rows, compiled=len(entered) >= TRACING_PAYS_FROM)
    moments = {path: engine.moments[key] for key, path in keys.items()}
    notes = _notes(plan, norms, moments)
    return Estimate(moments, "exact", entered[-1].last + 1, wanted, notes)


def _under_way(rows: Sequence[int | None], widest: int) -> list[int]:
    """For each stage, how many rows are worked on at the same time, at most."""
    return [AT_ONCE * max(most or 0, widest) for most in rows]


def _store(adapter: Adapter, limit: int | None, held: ExitStack) -> Store:
    def view(tensor: Any) -> Any:
        return adapter.view(tensor) if hasattr(tensor, "__array__") else None

    def restore(array: np.ndarray[Any, Any]) -> Any:
        return adapter.to_tensor(array, TensorSpec(array.shape, array.dtype.name))

    if limit is None:
        return Store(view, restore)
    folder = Path(held.enter_context(TemporaryDirectory(prefix="bnfix-")))
    return Store(view, restore, limit=limit, folder=folder)


def _notes(
    plan: Schedule, norms: dict[str, Any], moments: dict[str, ChannelMoments]
) -> tuple[str, ...]:
    chained = [
        f"{path} is called on a result of its own; its calls were settled in order and pooled"
        for path in plan.chained
    ]
    unused = [
        f"{path} is not called by the model and stays as it is"
        for path in norms
        if path not in moments
    ]
    return (*chained, *unused)


# --- without -----------------------------------------------------------------------------------


def _lockstep(
    adapter: Adapter,
    model: Any,
    norms: dict[str, Any],
    batches: Iterator[Loaded],
    settings: Settings,
) -> Estimate:
    inputs = [as_inputs(adapter, model, one) for one in batches]
    engine = LockstepEngine(adapter, model, norms, ddof=settings.ddof)
    with progress(None, "recalibrating", settings.verbose) as advance:
        engine.run(inputs, advance)
    return Estimate(engine.moments, "lockstep", len(inputs), None, engine.notes)


def _streaming(
    adapter: Adapter,
    model: Any,
    norms: dict[str, Any],
    batches: Iterator[Loaded],
    settings: Settings,
) -> Estimate:
    engine = StreamingEngine(adapter, model, norms, ddof=settings.ddof)
    inputs = (as_inputs(adapter, model, one) for one in batches)
    with progress(None, "recalibrating", settings.verbose) as advance:
        engine.run(inputs, advance)
    return Estimate(engine.moments, "streaming", engine.batches, None, engine.notes)
