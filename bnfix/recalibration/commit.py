"""Write new statistics into the model: all of them or none."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from bnfix.adapters import weights
from bnfix.adapters.base import Adapter
from bnfix.numerics.moments import Floats
from bnfix.restoring import put_back


@contextmanager
def committed(
    adapter: Adapter, updates: list[tuple[Any, Floats, Floats]]
) -> Generator[Callable[[], None]]:
    """`(layer, mean, variance)` of all of `updates` are stored while the block runs.

    They stay if the function handed out was called in it. Else, whatever ends the block, even a
    KeyboardInterrupt, every statistic is put back as it was.
    """
    variables = [variable for layer, _, _ in updates for variable in weights.statistics(layer)]
    undo = adapter.noted_values(variables)
    kept = False

    def keep() -> None:
        nonlocal kept
        kept = True

    try:
        for layer, mean, variance in updates:
            weights.write_statistics(layer, mean, variance)
        yield keep
    finally:
        if not kept:
            put_back([undo])
