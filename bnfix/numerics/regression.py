"""Which GroupNormalization comes closest to given outputs?

GroupNormalization gives every row n of channel c, which is in group g, at each of its positions

    out = gamma_c * z + beta_c,    z = (x - mean_ng) / sqrt(variance_ng + epsilon)

(Wu & He 2018, arXiv:1803.08494, equation 1). Least squares against the outputs y wanted there, over
all rows and positions, give

    gamma_c = cov(z, y) / var(z),    beta_c = mean(y) - gamma_c * mean(z)

Everything in this follows from five sums over the positions of each row and channel: of x, x^2, y,
y^2 and xy. So one look at the data serves every number of groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bnfix.numerics.moments import ChannelMoments, Floats

#: Values of inputs that are worked on at a time: what a core's own cache holds, with products.
_BLOCK = 1 << 16

#: Largest mean, squared and in variances, at which squares lose no more than a digit.
_NEAR = 4.0

#: Variance of a standardized channel below which it is constant but for rounding.
_CONSTANT = float(np.finfo(np.float32).eps) ** 2


@dataclass(frozen=True)
class RowSums:
    """Sums over the positions of each row and channel, of x and y less `x_pivot` and `y_pivot`.

    Attributes:
        positions: How many there are.
        sums: Of x, x^2, y, y^2 and xy, each (rows, channels).
        x_pivot: (channels,); what was subtracted, so that squares do not cancel.
        y_pivot: (channels,).
    """

    positions: int
    sums: Floats
    x_pivot: Floats
    y_pivot: Floats


@dataclass(frozen=True)
class Fit:
    """The best GroupNormalization with a number of groups.

    Attributes:
        groups: That number.
        gamma: (channels,).
        beta: (channels,).
        explained: Share of the variance of the outputs wanted, pooled over channels, that it
            reproduces; 1 where these do not vary.
    """

    groups: int
    gamma: Floats
    beta: Floats
    explained: float


def row_sums(x: npt.NDArray[np.floating], y: npt.NDArray[np.floating], *, axis: int) -> RowSums:
    """The sums of inputs `x` and outputs wanted `y`, both (rows, ...), channels along `axis`."""
    last = axis == x.ndim - 1
    x, y = (_by_position(values, axis) for values in (x, y))
    pivots = [_pivot(values[0], last) for values in (x, y)]
    sums = np.zeros((5, len(x), x.shape[-1 if last else 1]))
    scratch: list[npt.NDArray[np.floating]] = []  # fresh memory costs more than the sums
    for rows, columns in _blocks(x.shape):
        block = x[rows, columns]
        scratch = scratch or [np.empty_like(block) for _ in range(3)]
        product, *less = (one[: block.shape[0], : block.shape[1]] for one in scratch)
        here = sums[:, rows] if last else sums[:, rows, columns]
        ours, theirs = (
            _less(values[rows, columns], pivot if last else pivot[columns], last, out)
            for values, pivot, out in zip((x, y), pivots, less, strict=True)
        )
        here[0] += _over_positions(ours, last)
        here[1] += _over_positions(np.multiply(ours, ours, out=product), last)
        here[2] += _over_positions(theirs, last)
        here[3] += _over_positions(np.multiply(theirs, theirs, out=product), last)
        here[4] += _over_positions(np.multiply(ours, theirs, out=product), last)
    positions = x.shape[1 if last else -1]
    return RowSums(positions, sums, *pivots)


class Regression:
    """Fits GroupNormalizations with several numbers of groups to all rows that it has seen.

    Args:
        candidates: The numbers of groups; each divides the number of channels.
        channels: That number.
        epsilon: Of the GroupNormalizations.
    """

    def __init__(self, candidates: Sequence[int], channels: int, epsilon: float) -> None:
        self.candidates, self.epsilon = candidates, epsilon
        self.count = 0
        self._y = ChannelMoments(channels)
        self._z = {groups: ChannelMoments(channels) for groups in candidates}
        self._zy = {groups: np.zeros(channels) for groups in candidates}  # co-deviations

    def add(self, sums: RowSums) -> None:
        """Take in more rows."""
        n = sums.positions
        sx, sxx, sy, syy, sxy = sums.sums
        count = n * len(sx)
        if not count:
            return
        y_mean = sy.sum(axis=0) / count
        y_ss = syy.sum(axis=0) - count * np.square(y_mean)
        for groups in self.candidates:
            scale, shift = _standardizing(sums, groups, self.epsilon)
            z = scale * sx + n * shift
            zz = np.square(scale) * sxx + 2 * scale * shift * sx + n * np.square(shift)
            zy = scale * sxy + shift * sy
            z_mean = z.sum(axis=0) / count
            z_ss = zz.sum(axis=0) - count * np.square(z_mean)
            co = zy.sum(axis=0) - count * z_mean * y_mean
            weight = self.count * count / (self.count + count)
            apart = (z_mean - self._z[groups].mean) * (y_mean + sums.y_pivot - self._y.mean)
            self._zy[groups] += co + weight * apart
            self._z[groups].merge(count, z_mean, np.maximum(z_ss, 0) / count)
        self._y.merge(count, y_mean + sums.y_pivot, np.maximum(y_ss, 0) / count)
        self.count += count

    def fits(self) -> list[Fit]:
        """The best of each number of groups, in the order of `candidates`."""
        _, y_mean, y_variance = self._y.part
        found: list[Fit] = []
        for groups in self.candidates:
            _, z_mean, z_variance = self._z[groups].part
            co = self._zy[groups] / max(self.count, 1)
            varies = z_variance > _CONSTANT
            gamma = np.where(varies, co / np.where(varies, z_variance, 1), 0.0)
            left = y_variance - gamma * co
            total = float(y_variance.sum())
            explained = 1 - float(np.maximum(left, 0).sum()) / total if total > 0 else 1.0
            found.append(Fit(groups, gamma, y_mean - gamma * z_mean, explained))
        return found

    def best(self) -> Fit:
        """Of all, the one that explains most; of equals, that with fewest groups."""
        return max(self.fits(), key=lambda fit: (fit.explained, -fit.groups))


def normalizing(sums: RowSums, fit: Fit, epsilon: float) -> tuple[Floats, Floats]:
    """Scale and shift, (rows, channels), that take x to what the GroupNormalization `fit` makes."""
    scale, shift = _standardizing(sums, fit.groups, epsilon)
    return fit.gamma * scale, fit.gamma * (shift - scale * sums.x_pivot) + fit.beta


def _standardizing(sums: RowSums, groups: int, epsilon: float) -> tuple[Floats, Floats]:
    """Scale and shift, (rows, channels), that take x less its pivot to z."""
    sx, sxx = sums.sums[:2]
    rows, channels = sx.shape
    divided = (rows, groups, channels // groups)
    mean = sx / sums.positions + sums.x_pivot  # of each row and channel
    variance = np.maximum(sxx / sums.positions - np.square(sx / sums.positions), 0)
    group_mean = mean.reshape(divided).mean(axis=2, keepdims=True)
    between = np.square(mean.reshape(divided) - group_mean)
    group_variance = (variance.reshape(divided) + between).mean(axis=2, keepdims=True)
    scale = np.broadcast_to(1 / np.sqrt(group_variance + epsilon), divided).reshape(rows, channels)
    centre = np.broadcast_to(group_mean, divided).reshape(rows, channels)
    return scale, scale * (sums.x_pivot - centre)


def _by_position(values: npt.NDArray[np.floating], axis: int) -> npt.NDArray[np.floating]:
    """(rows, positions, channels), or (rows, channels, positions) where channels come first."""
    wide = np.float64 if values.dtype == np.float64 else np.float32
    values = values.astype(wide, copy=False)
    rows, channels = len(values), values.shape[axis]
    if axis not in (1, values.ndim - 1):
        values, axis = np.moveaxis(values, axis, 1), 1
    if axis == values.ndim - 1:
        return values.reshape(rows, -1, channels)
    return values.reshape(rows, channels, -1)


def _pivot(row: npt.NDArray[np.floating], last: bool) -> Floats:
    """About what to take squares, (channels,): the mean where it is large, else 0."""
    positions = 0 if last else 1
    mean, variance = row.mean(axis=positions, dtype=np.float64), row.var(axis=positions)
    near = np.square(mean) <= _NEAR * variance
    return np.where(near, 0.0, mean.astype(row.dtype))


def _less(
    block: npt.NDArray[np.floating], pivot: Floats, last: bool, out: npt.NDArray[np.floating]
) -> npt.NDArray[np.floating]:
    """`block` less its part of the pivot, in `out` if that is anything."""
    if not pivot.any():
        return block
    along = pivot if last else pivot[:, np.newaxis]
    return np.subtract(block, along.astype(block.dtype), out=out)


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Several rows, or a part of one along its first axis."""
    rows, columns, depth = shape
    height = max(_BLOCK // (columns * depth), 1)
    width = columns if height > 1 else max(_BLOCK // depth, 1)
    for row in range(0, rows, height):
        for column in range(0, columns, width):
            yield slice(row, row + height), slice(column, column + width)


def _over_positions(block: npt.NDArray[np.floating], last: bool) -> Floats:
    """Sums over the positions of each row and channel."""
    if last:  # a product with ones is the fastest sum
        return (np.ones(block.shape[1], block.dtype) @ block).astype(np.float64)
    return block.sum(axis=2).astype(np.float64)  # of contiguous values, in pairs
