"""Arrays that are made when they are looked at.

The weights of a whole network in float64 are twice as large as the network. Folding holds how they
are made instead, and each is there only while it is checked or stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt


class Deferred:
    """What `make` returns, which is called each time anew. Functions of numpy take it as an array.

    Args:
        shape: Of the array.
        make: Makes it.
        bound: Returns what no entry exceeds in magnitude; NaN where that cannot be told.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        make: Callable[[], npt.NDArray[Any]],
        bound: Callable[[], float],
    ) -> None:
        self.shape, self.ndim = shape, len(shape)
        self._make, self._bound = make, bound

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self._make(), dtype)

    @property
    def bound(self) -> float:
        return self._bound()


#: What a weight may be held as.
Array = npt.NDArray[Any] | Deferred


def bound(array: Array) -> float:
    """What no entry of `array` exceeds in magnitude; NaN if one is none, or it cannot be told."""
    if isinstance(array, Deferred):
        return array.bound
    # Not by abs(): a large array need not be copied to know its extremes.
    return float(max(array.max(), -array.min())) if array.size else 0.0


def is_within(array: Array, limit: float) -> bool:
    """Whether every entry is a number of at most that magnitude."""
    return bound(array) <= limit or bound(np.asarray(array)) <= limit
