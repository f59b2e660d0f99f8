"""Mean and variance of each channel, built part by part.

Two disjoint samples merge exactly (Chan, Golub & LeVeque 1983, "Algorithms for computing the sample
variance"); `ss` is the sum of squared deviations from the mean:

    delta = mean_b - mean_a
    mean  = mean_a + delta * count_b / count
    ss    = ss_a + ss_b + delta**2 * count_a * count_b / count
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bnfix.errors import StatisticsError

Floats = npt.NDArray[np.float64]


class ChannelMoments:
    """Running mean and variance per channel, in float64.

    Equals the moments of all values seen, whatever their split into parts and the parts' order.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0.0  # values per channel; masks with fractions are not possible, sums are exact
        self.mean: Floats = np.zeros(channels)
        self._ss: Floats = np.zeros(channels)

    def update(self, values: npt.ArrayLike, *, axis: int = -1) -> None:
        """Add every entry of `values`, whose channels lie along `axis`."""
        rows = np.moveaxis(np.asarray(values, np.float64), axis, -1).reshape(-1, self.mean.size)
        if len(rows):
            mean = rows.mean(axis=0)
            self.merge(len(rows), mean, np.square(rows - mean).mean(axis=0))

    def merge(self, count: float, mean: npt.ArrayLike, variance: npt.ArrayLike) -> None:
        """Add a part given by its own count, mean and population variance, each (channels,)."""
        if count == 0:  # a fully masked batch says nothing
            return
        total = self.count + count
        delta = np.asarray(mean, np.float64) - self.mean
        self.mean = self.mean + delta * (count / total)
        self._ss = (
            self._ss
            + np.asarray(variance, np.float64) * count
            + np.square(delta) * (self.count * count / total)
        )
        self.count = total

    def variance(self, *, ddof: int = 0) -> Floats:
        """Squared deviations over `count - ddof`: 0 the population variance, 1 the unbiased one."""
        if self.count <= ddof:
            raise StatisticsError(
                f"a variance with ddof={ddof} needs more than {ddof} values per channel; "
                f"got {self.count:g}."
            )
        return self._ss / (self.count - ddof)
