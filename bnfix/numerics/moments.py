"""Mean and variance of each channel, built part by part.

Two disjoint samples merge exactly (Chan, Golub & LeVeque 1983, "Algorithms for computing the sample
variance"); `ss` is the sum of squared deviations from the mean:

    delta = mean_b - mean_a
    mean  = mean_a + delta * count_b / count
    ss    = ss_a + ss_b + delta**2 * count_a * count_b / count

Values are taken in blocks that fit into the processor's cache, so each is fetched from memory once.
Within a block short sums are in the values' own precision, everything beyond them in float64.
Squares lose digits where a channel's mean is large against its deviations; from where that is
seen, such channels are taken about a pivot, the mean found there.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bnfix.errors import StatisticsError

Floats = npt.NDArray[np.float64]

#: Values in a block: 1 MiB of float32, about what a core's own cache holds.
_BLOCK = 1 << 18

#: Values that are added up in their own precision, at most: rounding grows with their number.
_SHORT = 128

#: Largest mean, squared and in variances, at which squares lose no more than a digit.
_NEAR = 4.0


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

    @property
    def not_finite(self) -> int:
        """Number of channels whose mean or variance is infinite or not a number."""
        return int(np.sum(~(np.isfinite(self.mean) & np.isfinite(self._ss))))

    def update(self, values: npt.NDArray[np.floating], *, axis: int, mask: object = None) -> None:
        """Add the entries of `values`, whose channels lie along `axis`, that `mask` lets through.

        Args:
            values: Any shape and floating dtype.
            axis: Position of the channels in that shape.
            mask: Broadcast over the last axis of `values`; true where a value counts.
        """
        if mask is not None:
            self._add_masked(np.moveaxis(values, axis, -1), _spread(mask, values.shape, axis))
        elif values.size:
            self._add(values, axis)

    def merge(self, count: npt.ArrayLike, mean: npt.ArrayLike, variance: npt.ArrayLike) -> None:
        """Add a part given by its counts (one or (channels,)), means and population variances.

        A part without values, such as a fully masked batch, changes nothing.
        """
        counts = np.broadcast_to(np.asarray(count, np.float64), self.mean.shape)
        total = np.maximum(self.counts + counts, 1)
        with np.errstate(all="ignore"):  # what is not finite is reported by whoever asks
            delta = np.where(counts > 0, np.asarray(mean, np.float64) - self.mean, 0.0)
            self.mean = self.mean + delta * (counts / total)
            within = np.where(counts > 0, np.asarray(variance, np.float64) * counts, 0.0)
            between = np.square(delta) * (self.counts * counts / total)
            self._ss = self._ss + within + between
        self.counts = self.counts + counts

    def absorb(self, other: ChannelMoments, *, weight: float = 1.0) -> None:
        """Add everything that `other` has seen, each value counted `weight` times."""
        counts, mean, variance = other.part
        self.merge(weight * counts, mean, variance)

    def copy(self) -> ChannelMoments:
        """Another with the same values, to go on from."""
        made = ChannelMoments(self.mean.size)
        made.absorb(self)
        return made

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

    def _add(self, values: npt.NDArray[np.floating], axis: int) -> None:
        # (before, channels, behind) takes any axis without copying.
        behind = int(np.prod(values.shape[axis + 1 :]))
        rows = values.reshape(-1, self.mean.size, behind)
        wide = np.float64 if values.dtype == np.float64 else np.float32
        height = max(_BLOCK // rows[0].size, 1)
        height = max(height // _SHORT * _SHORT, min(height, _SHORT))
        blocks = [rows[start : start + height] for start in range(0, len(rows), height)]
        scratch = np.empty(blocks[0].shape, wide)  # fresh memory costs more than the sums
        pivot = np.zeros(self.mean.size, wide)
        means, variances = np.empty((2, len(blocks), self.mean.size))
        with np.errstate(all="ignore"):  # what is not finite is reported by whoever asks
            for number, block in enumerate(blocks):
                block = block.astype(wide, copy=False)
                mean, variance = _about(pivot, block, scratch)
                far = ~(np.square(mean - pivot) <= _NEAR * variance)
                if far.any():
                    pivot = np.where(far, mean, pivot).astype(wide)
                    mean, variance = _about(pivot, block, scratch)
                means[number], variances[number] = mean, variance
            self.merge(
                *_pooled(np.array([len(block) * behind for block in blocks]), means, variances)
            )

    def _add_masked(self, rows: npt.NDArray[np.floating], seen: npt.NDArray[np.bool_]) -> None:
        """Mask and values with channels last; float64 throughout, for masks are seldom large."""
        rows, seen = rows.reshape(-1, self.mean.size), seen.reshape(-1, self.mean.size)
        counts = seen.sum(axis=0)
        total = np.maximum(counts, 1)
        kept = np.where(seen, rows, 0).astype(np.float64)
        with np.errstate(all="ignore"):
            mean = kept.sum(axis=0) / total
            apart = np.where(seen, kept - mean, 0)
            self.merge(counts, mean, np.square(apart).sum(axis=0) / total)


def _pooled(counts: Floats, means: Floats, variances: Floats) -> tuple[float, Floats, Floats]:
    """Count, mean and variance of all parts; `counts` is (parts,), the others (parts, channels)."""
    total = counts.sum()
    weights = counts / total
    mean = weights @ means
    return total, mean, weights @ (variances + np.square(means - mean))


def _about(
    pivot: npt.NDArray[np.floating],
    block: npt.NDArray[np.floating],
    scratch: npt.NDArray[np.floating],
) -> tuple[Floats, Floats]:
    """Mean and variance of each channel of (before, channels, behind), from sums about `pivot`."""
    count, apart, scratch = len(block) * block.shape[2], block, scratch[: len(block)]
    if pivot.any():
        apart = np.subtract(block, pivot[:, np.newaxis], out=scratch)
    first = _sums(apart) / count
    second = _sums(np.multiply(apart, apart, out=scratch)) / count
    return pivot + first, np.maximum(second - np.square(first), 0)


def _sums(block: npt.NDArray[np.floating]) -> Floats:
    """Sums per channel of (before, channels, behind)."""
    if block.shape[2] > 1:  # numpy adds up contiguous values in pairs, which rounds little
        return block.sum(axis=2).sum(axis=0, dtype=np.float64)
    height = min(_SHORT, len(block))
    even = len(block) // height * height
    # A product with ones is the fastest sum, and the faster the longer its rows.
    wide = np.ones(height, block.dtype) @ block[:even].reshape(height, -1)
    sums = wide.reshape(-1, block.shape[1]).sum(axis=0, dtype=np.float64)
    return sums + _sums(block[even:]) if even < len(block) else sums


def _spread(mask: object, shape: tuple[int, ...], axis: int) -> npt.NDArray[np.bool_]:
    """`mask` for every value, channels last."""
    spread = np.broadcast_to(np.asarray(mask, bool)[..., np.newaxis], shape)
    return np.moveaxis(spread, axis, -1)
