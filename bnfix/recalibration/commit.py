"""Write new statistics into the model: all of them or none."""

from __future__ import annotations

from typing import Any

from bnfix.adapters import weights
from bnfix.adapters.base import Adapter
from bnfix.numerics.moments import Floats


def commit(adapter: Adapter, updates: list[tuple[Any, Floats, Floats]]) -> None:
    """Store `(layer, mean, variance)` for all of `updates`.

    Whatever interrupts it, even a KeyboardInterrupt, puts every statistic back as it was.
    """
    variables = [variable for layer, _, _ in updates for variable in weights.statistics(layer)]
    before = [adapter.copy_value(variable) for variable in variables]
    done = False
    try:
        for layer, mean, variance in updates:
            weights.write_statistics(layer, mean, variance)
        done = True
    finally:
        if not done:
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)
