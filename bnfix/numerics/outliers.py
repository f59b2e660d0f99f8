"""Does one row alone make most of a channel's variance?

Of n rows, each with the sum s_i of squared deviations of its values in the channel, row i makes the
share s_i / sum(s) of the variance. A value of 1e12 among thousands near 1 makes all of it, and one
image that was not standardized as the others were most of it: the statistics are then those of this
row. A channel that is the same everywhere else is rare, not wrong, and is not told.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnfix.numerics.moments import Floats

#: Share of the variance beyond which one row is told of.
_MOST = 0.9

#: Values that are worked on at a time: what a core's own cache holds.
_BLOCK = 1 << 16

#: Values of a channel of which the median is taken: more tell no more where its middle is.
_SAMPLE = 1 << 16

#: Fewest rows among which one can stand out.
_ENOUGH = 32


@dataclass(frozen=True)
class Outlier:
    """A row that makes most of a channel's variance.

    Attributes:
        row: Its position among all rows seen, from 0.
        channel: Index along the last axis.
        share: Of the channel's variance.
        value: What of it lies farthest from the rest.
    """

    row: int
    channel: int
    share: float
    value: float


class Outliers:
    """Finds them as batches `(batch, ..., channels)` pass by."""

    def __init__(self) -> None:
        self._rows = 0
        self._middle: Floats | None = None
        self._rest = self._largest = self._where = self._value = np.zeros(0)

    def update(self, batch: Floats) -> None:
        if not batch.size:
            return
        values = batch.reshape(len(batch), -1, batch.shape[-1] if batch.ndim > 1 else 1)
        if self._middle is None:
            self._middle = _middle(values)
            self._rest, self._largest, self._where, self._value = np.zeros((4, values.shape[-1]))
        if values.shape[-1] != self._rest.size:
            return
        sums = _squares(values, self._middle)
        first = sums.argmax(axis=0)
        channels = np.arange(self._rest.size)
        most = sums[first, channels]
        for channel in np.flatnonzero(most > self._largest):
            row = values[first[channel], :, channel]
            self._value[channel] = row[np.abs(row - self._middle[channel]).argmax()]
            self._where[channel] = self._rows + first[channel]
        # The rest by itself: in the sum with what outweighs it, it would be rounded away.
        sums[first, channels] = np.minimum(self._largest, most)
        self._rest += sums.sum(axis=0)
        self._largest = np.maximum(self._largest, most)
        self._rows += len(values)

    def found(self) -> list[Outlier]:
        """One for each channel that has one."""
        if self._rows < _ENOUGH:
            return []
        with np.errstate(all="ignore"):
            share = self._largest / (self._largest + self._rest)
        alone = (self._rest > 0) & (share > _MOST)
        return [
            Outlier(int(self._where[c]), int(c), float(share[c]), float(self._value[c]))
            for c in np.flatnonzero(alone)
        ]


def _middle(values: Floats) -> Floats:
    """The median of each channel, which one row does not move; of some positions, if many."""
    step = max(values[..., 0].size // _SAMPLE, 1)
    return np.median(values[:, :: min(step, values.shape[1])].astype(np.float64), axis=(0, 1))


def _squares(values: Floats, middle: Floats) -> Floats:
    """Of each row and channel, the sum of squared deviations from `middle`."""
    rows, positions, channels = values.shape
    sums = np.empty((rows, channels))
    height = min(max(_BLOCK // (positions * channels), 1), rows)
    scratch, ones = np.empty((height, positions, channels)), np.ones(positions)
    for start in range(0, rows, height):
        block = values[start : start + height]
        with np.errstate(over="ignore", invalid="ignore"):
            apart = np.subtract(block, middle, out=scratch[: len(block)])
            # A product with ones is the fastest sum.
            np.matmul(ones, np.square(apart, out=apart), out=sums[start : start + height])
    return sums
