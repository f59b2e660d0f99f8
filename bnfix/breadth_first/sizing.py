"""How many rows go through each stage at a time, and how many pieces of them side by side?"""

from __future__ import annotations

from bnfix.breadth_first.memory import RowBytes, widest, working
from bnfix.breadth_first.network import Network
from bnfix.breadth_first.pieces import keeps_rows_apart
from bnfix.breadth_first.schedule import Schedule

#: Largest tensor that a processor works on at a time. Larger ones leave its cache, and memory for
#: them is fetched from the system anew each time.
PIECE_BYTES = 32 << 20

#: Pieces under way in compiled code, beside one on each device: while those keep the devices busy,
#: one is measured and one is fetched.
_BESIDE = 2

#: Share of a memory limit that what is under way may take, so that most of it is left for waiting.
_UNDER_WAY = 1 / 4


def at_once(network: Network) -> int:
    """How many pieces are under way at the same time."""
    return len(network.places) + _BESIDE


def rows_at_a_time(
    network: Network, plan: Schedule, sizes: RowBytes, limit: int | None
) -> list[int | None]:
    """For each stage, never fewer than for the one before; None where batches stay as they are.

    Tensors become smaller on their way through most networks, and calls of few rows waste time.
    Where each length is compiled for, lengths are powers of two: few, of which most are met again.
    """
    fixed = any(value.shape[:1] != (None,) for value in network.graph.inputs)
    apart = all(keeps_rows_apart(c.kind, network.layers[c.layer]) for c in network.graph)
    if fixed or not apart or network.subject.adapter.accelerated:
        return [None] * len(plan.stages)
    few_lengths = network.subject.adapter.backend.compiles_each_length
    rows: list[int | None] = []
    together = at_once(network)
    most = None
    for stage in reversed(plan.stages):
        fits = PIECE_BYTES // widest(stage, sizes)
        if limit is not None:
            fits = min(fits, int(limit * _UNDER_WAY) // (together * working(stage, sizes) or 1))
        most = max(fits, 1) if most is None else max(min(fits, most), 1)
        rows.append(1 << (most.bit_length() - 1) if few_lengths else most)
    return rows[::-1]
