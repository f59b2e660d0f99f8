"""Measure what every BatchNormalization would have to hold, and change nothing.

Which engine does it: `exact` where the graph shows every call, `lockstep` where it does not, both
exact; `streaming` on request, for data that cannot be held.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from bnfix.recalibration.memory import Need, RowBytes, Store, check_room, largest, need
from bnfix.recalibration.pieces import TRACING_PAYS_FROM, keeps_rows_apart, pieces
from bnfix.recalibration.schedule import Schedule, schedule
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
    rows = _rows_of_a_piece(reading, plan, sizes, settings.memory_limit)
    with ExitStack() as held:
        store = _store(adapter, settings.memory_limit, held)
        engine = ExactEngine(reading, plan, ddof=settings.ddof, store=store)
        entered, number = [], 0
        for piece in pieces(chain([first], batches), rows):
            if not entered and store.limit is not None:
                working = need(plan, sizes, rows=0, piece=piece.rows).working
                store.limit = max(store.limit - working, 0)
            entered.append(engine.enter(len(entered), piece))
            number = piece.last + 1
        wanted = need(
            plan,
            sizes,
            rows=sum(piece.rows for piece in entered),
            piece=max(piece.rows for piece in entered),
        )
        if settings.memory_limit is not None and store.folder is not None:
            check_room(wanted, settings.memory_limit, store.folder)
        total = len(plan.stages) * len(entered)
        advance = held.enter_context(progress(total, "recalibrating", settings.verbose))
        held.enter_context(adapter.preserved(reading.model))
        engine.run(entered, advance, compiled=len(entered) >= TRACING_PAYS_FROM)
    moments = {path: engine.moments[key] for key, path in keys.items()}
    return Estimate(moments, "exact", number, wanted, _notes(plan, norms, moments))


def _rows_of_a_piece(
    reading: Reading, plan: Schedule, sizes: RowBytes, limit: int | None
) -> int | None:
    """How many rows to run at a time; None where batches must stay as they are."""
    fixed = any(value.shape[:1] != (None,) for value in reading.graph.inputs)
    apart = all(keeps_rows_apart(c.kind, reading.layers[c.layer]) for c in reading.graph)
    if fixed or not apart or reading.adapter.accelerated:
        return None
    most = _PIECE_BYTES // largest(plan, sizes)
    if limit is not None:
        one = need(plan, sizes, rows=0, piece=1).working
        most = min(most, limit // (4 * one + 1))
    return max(most, 1)


#: Largest tensor that a processor works on at a time. Larger ones leave its cache, and memory for
#: them is fetched from the system anew each time.
_PIECE_BYTES = 32 << 20


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
