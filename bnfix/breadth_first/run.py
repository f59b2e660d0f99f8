"""Batches in, everything found out: pieces, memory, progress and the engine put together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bnfix.adapters.base import Adapter
from bnfix.breadth_first.engine import Engine
from bnfix.breadth_first.loading import Loaded
from bnfix.breadth_first.memory import Need, Store, check_room, need
from bnfix.breadth_first.network import Network, Stop
from bnfix.breadth_first.pieces import Piece, pieces
from bnfix.breadth_first.schedule import Schedule
from bnfix.breadth_first.sizing import at_once, rows_at_a_time
from bnfix.graph.definition import TensorSpec
from bnfix.machine import free_memory
from bnfix.progress import counted, progress

#: Share of the processor's free memory that may be taken: data and results come through it, too.
_HOST = 1 / 2


@dataclass(frozen=True)
class Ran:
    """What was run.

    Attributes:
        batches: Number of batches read.
        rows: Number of rows in them.
        need: Memory that the schedule implied.
    """

    batches: int
    rows: int
    need: Need


def run(
    network: Network,
    plan: Schedule,
    stop: Stop,
    batches: Iterator[Loaded],
    *,
    doing: str,
    memory_limit: int | None = None,
    verbose: int | str = "auto",
) -> Ran:
    """Take all of `batches`, at least one, through `plan`; the model is as before in the end.

    Args:
        network: What runs.
        plan: In which stages.
        stop: What is found out at the end of each.
        batches: Read once.
        doing: What the progress bar says.
        memory_limit: Bytes that tensors may take in memory, or None.
        verbose: Whether progress is shown, as in Keras.
    """
    adapter, model = network.subject
    first = next(batches)
    with ExitStack() as held:
        store = _store(adapter, memory_limit, held)
        host = store.host  # before inputs wait there, which the need has counted
        engine = Engine(network, plan, stop, store)
        sizes = engine.row_bytes(first.flat)
        rows = rows_at_a_time(network, plan, sizes, memory_limit)
        under_way = partial(_under_way, rows, at_once(network))
        entered: list[Piece] = []
        coming = pieces(chain([first], batches), rows[0] if rows else None)
        for piece in counted(coming, "reading data", verbose):
            if not entered and store.limit is not None:
                working = need(plan, sizes, rows=0, at_once=under_way(piece.rows)).working
                store.limit = max(store.limit - working, 0)
            entered.append(engine.enter(len(entered), piece))
        total, widest = (take(piece.rows for piece in entered) for take in (sum, max))
        most = [min(some, total) for some in under_way(widest)]
        wanted = need(plan, sizes, rows=total, at_once=most)
        if memory_limit is not None and store.folder is not None:
            check_room(wanted, memory_limit, store.folder, host=host)
        advance = held.enter_context(progress(len(plan.stages) * total, doing, verbose))
        held.enter_context(adapter.preserved(model))
        pays = len(entered) >= adapter.backend.compiling_pays_from
        engine.run(entered, advance, rows=rows, compiled=pays)
    return Ran(entered[-1].last + 1, total, wanted)


def _under_way(rows: Sequence[int | None], pieces: int, widest: int) -> list[int]:
    """For each stage, how many rows are worked on at the same time, at most."""
    return [pieces * max(most or 0, widest) for most in rows]


def _store(adapter: Adapter, limit: int | None, held: ExitStack) -> Store:
    def view(tensor: Any) -> Any:
        return adapter.view(tensor) if hasattr(tensor, "__array__") else None

    def restore(array: np.ndarray[Any, Any]) -> Any:
        return adapter.to_tensor(array, TensorSpec(array.shape, array.dtype.name))

    if limit is None:
        return Store(view, restore)
    folder = Path(held.enter_context(TemporaryDirectory(prefix="bnfix-")))
    host = _host() if adapter.accelerated else 0
    return Store(view, restore, limit=limit, folder=folder, host=host)


def _host() -> int:
    """Bytes of the processor's memory that may be taken for what a device has no room for."""
    free = free_memory()
    return int(free * _HOST) if math.isfinite(free) else 0
