"""Models as serving code runs them, over whole data sets, and how far outputs are apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

#: Calls that are not timed: tracing, and the first run of each kernel.
WARM_UP = 3


def compiled(model: Any, *, jit: bool = False) -> Callable[[Any], Any]:
    """`model` in inference mode under `tf.function`; with `jit`, by XLA."""
    import tensorflow as tf

    call = tf.function(lambda x: model(x, training=False), jit_compile=jit)
    return lambda x: np.asarray(call(x))


def one_pass(model: Any, x: Any, batch: int, *, training: bool = False) -> Callable[[], None]:
    """All of `x` through the compiled model once; traced already."""
    import tensorflow as tf

    call = tf.function(lambda rows: model(rows, training=training))
    starts = range(0, len(x), batch)
    for rows in {len(x[start : start + batch]) for start in starts}:
        call(x[:rows])

    def run() -> None:
        for start in starts:
            np.asarray(call(x[start : start + batch]))

    return run


def on(x: Any, calls: dict[str, Callable[[Any], Any]]) -> dict[str, Callable[[], Any]]:
    """The calls, each of `x`."""
    return {name: partial(call, x) for name, call in calls.items()}


def difference(ours: Any, theirs: Any) -> float:
    """Largest difference of two outputs, in units of the largest value of `theirs`."""
    a, b = (np.asarray(each, np.float64) for each in (ours, theirs))
    return float(np.max(np.abs(a - b)) / np.max(np.abs(b)))
