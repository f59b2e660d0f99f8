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
    Channels may have seen different numbers of values, since a mask need not treat them alike.
    """

    def __init__(self, channels: int) -> None:
        self.counts: Floats = np.zeros(channels)  # values seen, (channels,)
        self.mean: Floats = np.zeros(channels)
        self._ss: Floats = np.zeros(channels)

    @property
    def count(self) -> int:
        """Values seen by the channel that saw fewest."""
        return int(self.counts.min(initial=np.inf)) if self.counts.size else 0

    def update(self, values: npt.ArrayLike, *, axis: int = -1) -> None:
        """Add every entry of `values`, whose channels lie along `axis`."""
        rows = np.moveaxis(np.asarray(values, np.float64), axis, -1).reshape(-1, self.mean.size)
        if len(rows):
            mean = rows.mean(axis=0)
            self.merge(len(rows), mean, np.square(rows - mean).mean(axis=0))

    def merge(self, count: npt.ArrayLike, mean: npt.ArrayLike, variance: npt.ArrayLike) -> None:
        """Add a part given by its counts (one or (channels,)), means and population variances.

        A part without values, such as a fully masked batch, changes nothing.
        """
        counts = np.broadcast_to(np.asarray(count, np.float64), self.mean.shape)
        total = np.maximum(self.counts + counts, 1)
        delta = np.where(counts > 0, np.asarray(mean, np.float64) - self.mean, 0.0)
        self.mean = self.mean + delta * (counts / total)
        within = np.where(counts > 0, np.asarray(variance, np.float64) * counts, 0.0)
        self._ss = self._ss + within + np.square(delta) * (self.counts * counts / total)
        self.counts = self.counts + counts

    def absorb(self, other: ChannelMoments, *, weight: float = 1.0) -> None:
        """Add everything that `other` has seen, each value counted `weight` times."""
        counts, mean, variance = other.part
        self.merge(weight * counts, mean, variance)

    @property
    def part(self) -> tuple[Floats, Floats, Floats]:
        """Counts, means and population variances (0 where nothing was seen), each (channels,)."""
        return self.counts, self.mean, self._ss / np.where(self.counts > 0, self.counts, 1)

    def variance(self, *, ddof: int = 0) -> Floats:
        """Squared deviations over `count - ddof`: 0 the population variance, 1 the unbiased one."""
        if self.count <= ddof:
            raise StatisticsError(
                f"a variance with ddof={ddof} needs more than {ddof} values per channel; "
                f"got {self.count}."
            )
        return self._ss / (self.counts - ddof)
