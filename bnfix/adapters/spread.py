"""Variables that are spread over processes, of which each reads its own part."""

from __future__ import annotations

from typing import Any


def here(variable: Any) -> Any:
    """The part of `variable` that this process holds, to read which no other has to be asked.

    Read as a whole, a variable of a `MultiWorkerMirroredStrategy` may wait for all workers to read
    it too. Any other variable is returned as it is.
    """
    held = (
        variable if hasattr(variable, "distribute_strategy") else getattr(variable, "value", None)
    )
    strategy = getattr(held, "distribute_strategy", None)
    if strategy is None or getattr(strategy, "cluster_resolver", None) is None:
        return variable
    return strategy.experimental_local_results(held)[0]
