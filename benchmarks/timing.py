"""Contenders that take turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .benchmark import Measured


class Fresh(NamedTuple):
    """A call that gets something made anew for each round; the making is not timed."""

    make: Callable[[], Any]
    run: Callable[[Any], Any]


def interleaved(
    calls: Mapping[str, Callable[[], Any] | Fresh], repeats: int, *, warm_up: int = 0
) -> dict[str, Measured]:
    """Seconds of each call in each of `repeats` rounds, after `warm_up` rounds not counted.

    What a call leaves to the garbage collector is collected before the next one is timed: a model
    is a large cycle, and would be charged to whoever comes after it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warm_up + repeats):
        for name, call in calls.items():
            given = (call.make(),) if isinstance(call, Fresh) else ()
            run: Callable[..., Any] = call.run if isinstance(call, Fresh) else call
            gc.collect()
            begin = time.perf_counter()
            run(*given)
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - begin)
    return {name: Measured("s", tuple(taken)) for name, taken in seconds.items()}


def milliseconds(measured: Measured) -> Measured:
    return Measured("ms", tuple(1e3 * value for value in measured.repeats))
