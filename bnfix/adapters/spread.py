"""Variables that are spread over processes, of which each reads and writes its own part.

Read or assigned to as a whole, a variable of a `MultiWorkerMirroredStrategy` may wait for all
workers to do the same.
"""

from __future__ import annotations

from typing import Any


def parts(variable: Any) -> tuple[Any, ...]:
    """What this process holds of `variable`, one for each of its devices; itself if not spread."""
    is_own = hasattr(variable, "distribute_strategy")
    held = variable if is_own else getattr(variable, "value", None)
    strategy = getattr(held, "distribute_strategy", None)
    if strategy is None or getattr(strategy, "cluster_resolver", None) is None:
        return (variable,)
    return tuple(strategy.experimental_local_results(held))


def here(variable: Any) -> Any:
    """The first of `parts`."""
    return parts(variable)[0]
