"""An average pooling as the linear layer that it is.

The mean of n positions is a kernel of n taps of 1/n (Ding et al. 2021, Diverse Branch Block,
arXiv:2103.13425, section 3.2), provided that it is of n positions everywhere: Keras leaves out what
is padded, so that at a border the mean is of fewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from bnfix.graph.graph import Call
from bnfix.graph.source import Source
from bnfix.numerics.linear import Linear, plus_input
from bnfix.numerics.moments import Floats
from bnfix.numerics.window import Window


@dataclass(frozen=True)
class Mean:
    """An average pooling: its window, and the axis of channels."""

    window: Window
    axis: int


def averaged(call: Call, source: Source) -> Mean | None:
    """What an average pooling does, if its means are of as many positions everywhere."""
    if not call.kind.startswith("AveragePooling"):
        return None
    options, shape = source.options(call), call.inputs[0].shape
    axes = len(shape) - 2
    size, steps = (_each(options[name], axes) for name in ("pool_size", "strides"))
    first = 2 if options.get("data_format") == "channels_first" else 1
    found = Mean(Window(size, steps, (1,) * axes, "valid"), 1 if first == 2 else axes + 1)
    if options["padding"] == "valid":
        return found
    made = call.outputs[0].shape
    for axis, (taps, step) in enumerate(zip(size, steps, strict=True), first):
        given, out = shape[axis], made[axis]
        if given is None or out is None or (out - 1) * step + taps > given:
            return None
    return found


def _each(number: Any, axes: int) -> tuple[int, ...]:
    whole = (number,) * axes if isinstance(number, int) else tuple(number)
    return tuple(map(int, whole))


def plus_mean(
    linear: Linear, places: tuple[tuple[int, ...], ...], scale: Floats, shift: Floats
) -> Linear:
    """The layer that computes `linear(x) + scale * mean(x) + shift`, in float64 (not yet rounded).

    Args:
        linear: Of as many channels on either side.
        places: Along each axis of positions, where in its kernel the taps of the mean lie.
        scale: (channels,).
        shift: As `scale`.
    """
    share = scale / np.prod([len(taps) for taps in places])
    for tap in product(*places):
        linear = plus_input(linear, tap, share, 0 * share)
    return plus_input(linear, next(product(*places)), 0 * share, shift)
