"""Contenders that take turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def interleaved(
    calls: Sequence[Callable[[], Any]], repeats: int, *, warm_up: int = 0
) -> list[float]:
    """Median seconds of each call over `repeats` rounds, after `warm_up` rounds not counted.

    What a call leaves to the garbage collector is collected before the next one is timed: a model
    is a large cycle, and would be charged to whoever comes after it.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(warm_up + repeats):
        for call, taken in zip(calls, seconds, strict=True):
            gc.collect()
            begin = time.perf_counter()
            call()
            if turn >= warm_up:
                taken.append(time.perf_counter() - begin)
    return [float(np.median(taken)) for taken in seconds]
