"""How much of their initial 0 and 1 do moving statistics still hold, and after how many updates?

Every training step with momentum m moves them by 1 - m towards the statistics of its batch. After n
steps towards the same mean and variance, with f = m**n left of where they began:

    old_mean     = (1 - f) * mean     + f * 0
    old_variance = (1 - f) * variance + f * 1

f is fitted to all channels by least squares, each distance in units of its channel's standard
deviation, the larger of the stored and the actual one (by the actual alone, a channel that hardly
varies would outweigh all others), and at least the root of epsilon: the layer divides by no less,
however constant a channel is. It explains the share 1 - sum(residual**2) / sum(distance**2).

The same update is an exponential moving average that starts at a constant and is not corrected for
it (Kingma & Ba 2014, arXiv:1412.6980, section 3, where the correction divides by 1 - m**n).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bnfix.numerics.moments import Floats

#: Least share of the distance that initial values must explain before they are held to be its
#: cause. In training the network changes under its statistics, so that it never is all of it.
ENOUGH = 0.5

#: Distances below this many standard deviations, root mean square, are what a sample of some
#: thousand values leaves by chance: there is nothing to explain.
NEGLIGIBLE = 0.02

_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Convergence:
    """What initial values explain of how far stored statistics are from those of the data.

    Attributes:
        fraction: Of the initial 0 and 1 in the stored statistics, 0 to 1; of a fit over several
            momenta, that of the first.
        explained: Share of the squared distance that this fraction explains.
        updates: Number of training steps that leave this fraction; None where the momentum does
            not tell it, as 0 and 1 do not.
    """

    fraction: float
    explained: float
    updates: float | None


def distance(
    old_mean: npt.ArrayLike,
    old_variance: npt.ArrayLike,
    mean: npt.ArrayLike,
    variance: npt.ArrayLike,
    *,
    epsilon: npt.ArrayLike = 0.0,
) -> float:
    """Root mean square over channels of what separates stored from actual, in sigma."""
    _, gaps = _terms(old_mean, old_variance, mean, variance, epsilon)
    return float(np.sqrt(np.mean(np.square(gaps)))) if gaps.size else 0.0


def convergence(
    old_mean: npt.ArrayLike,
    old_variance: npt.ArrayLike,
    mean: npt.ArrayLike,
    variance: npt.ArrayLike,
    *,
    momentum: npt.ArrayLike,
    epsilon: npt.ArrayLike = 0.0,
) -> Convergence | None:
    """The fraction of initial values that fits stored statistics best.

    Args:
        old_mean: (channels,), as stored; of one layer or of several, put one behind the other.
        old_variance: (channels,), as stored.
        mean: (channels,), of the data.
        variance: (channels,), of the data.
        momentum: Of the moving average, one number or (channels,). Layers of several momenta have
            seen the same number of updates, which is fitted then.
        epsilon: Of the layer, one number or (channels,).

    Returns:
        None where it explains too little: stored and actual statistics agree, or they differ for
        another reason, or a value is not finite.
    """
    pulls, gaps = _terms(old_mean, old_variance, mean, variance, epsilon)
    if not gaps.size or not (np.isfinite(pulls).all() and np.isfinite(gaps).all()):
        return None
    total = float(np.sum(np.square(gaps)))
    if total <= NEGLIGIBLE**2 * gaps.size:
        return None
    momenta = np.broadcast_to(np.asarray(momentum, np.float64), gaps.shape[1:])
    # A channel that is constant in file and data alike is further from 1 than can be squared.
    with np.errstate(over="ignore", invalid="ignore"):
        kept = _fractions(pulls, gaps, momenta)
        explained = 1.0 - float(np.sum(np.square(gaps - pulls * kept))) / total
    if not explained >= ENOUGH:
        return None
    fraction = float(kept[0])
    return Convergence(fraction, explained, updates(fraction, float(momenta[0])))


def updates(fraction: float, momentum: float) -> float | None:
    """Number of steps after which `momentum` leaves `fraction` of the initial values."""
    if not 0.0 < momentum < 1.0:
        return None
    return math.inf if fraction <= 0.0 else abs(math.log(fraction) / math.log(momentum))


def _terms(
    old_mean: npt.ArrayLike,
    old_variance: npt.ArrayLike,
    mean: npt.ArrayLike,
    variance: npt.ArrayLike,
    epsilon: npt.ArrayLike,
) -> tuple[Floats, Floats]:
    """Per channel the whole way to 0 and 1, and the way gone: (2, channels), in sigma.

    A variance is measured in variances, so that both rows are free of the data's units.
    """
    stored_mean, stored, actual_mean, actual = (
        np.asarray(values, np.float64).reshape(-1)
        for values in (old_mean, old_variance, mean, variance)
    )
    with np.errstate(invalid="ignore", over="ignore"):  # stored values may be infinite or no number
        wide = np.maximum(np.maximum(stored, actual), np.maximum(epsilon, _TINY))
        sigma = np.sqrt(wide)
        pulls = np.stack([(0.0 - actual_mean) / sigma, (1.0 - actual) / wide])
        gaps = np.stack([(stored_mean - actual_mean) / sigma, (stored - actual) / wide])
    return pulls, gaps


def _fractions(pulls: Floats, gaps: Floats, momenta: Floats) -> Floats:
    """Fraction left in each channel: one for all, or that of the one best number of updates."""
    along, across = np.sum(pulls * gaps, axis=0), np.sum(np.square(pulls), axis=0)
    distinct, group = np.unique(momenta, return_inverse=True)
    if distinct.size == 1:
        total = float(np.sum(across))
        fraction = float(np.sum(along)) / total if total else 0.0
        return np.full(momenta.shape, min(max(fraction, 0.0), 1.0))
    # The residual as a function of n needs two sums for each momentum, whatever the channels.
    along = np.bincount(group, along, distinct.size)
    across = np.bincount(group, across, distinct.size)
    steps = np.concatenate([[0.0], np.geomspace(0.1, 1e6, 2001)])
    base = np.clip(distinct, 0.0, 1.0)
    left = base[None, :] ** steps[:, None]
    residual = np.sum(across * np.square(left) - 2.0 * along * left, axis=1)
    return left[int(np.argmin(residual))][group]
