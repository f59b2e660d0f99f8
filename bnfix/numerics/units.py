"""Are data in other units than those that statistics were made from?

A linear layer in front of a BatchNormalization passes on the unit of its input: with x in units k
times as small, all channels have k times the mean and k times the deviation,

    mean = k * old_mean,    variance = k**2 * old_variance,

and another mean where something was added to x as well. Behind the BatchNormalization k is gone.
"""

from __future__ import annotations

import numpy as np

from bnfix.numerics.convergence import convergence
from bnfix.numerics.moments import Floats
from bnfix.numerics.tolerance import SUSPICIOUS

#: Factors nearer to 1 have other reasons, as batches of two values have.
_LEAST = 4.0

#: How far the logarithms of the channels' factors may be from that of all, root mean square, as a
#: part of that: other images vary otherwise, by some ten percent, or a half between two channels.
_ALIKE = 1 / 8

#: With fewer channels a chance agreement is too likely.
_LEAST_CHANNELS = 4


def other_unit(
    old_mean: Floats, old_variance: Floats, mean: Floats, variance: Floats
) -> float | None:
    """The k of the module docstring, all arguments (channels,); None where none fits.

    Means are asked what deviations leave open: whether it is the unit, or both statistics or the
    variances alone were multiplied. What too few updates explain as well is left to them.
    """
    varies = np.minimum(old_variance, variance) > np.finfo(np.float32).tiny
    if np.sum(varies) < _LEAST_CHANNELS:
        return None
    old_mean, old_variance = old_mean[varies], old_variance[varies]
    mean, variance = mean[varies], variance[varies]
    logs = (np.log(variance) - np.log(old_variance)) / 2
    middle = float(np.median(logs))
    if abs(middle) < np.log(_LEAST) or _rms(logs - middle) > _ALIKE * abs(middle):
        return None
    factor = float(np.exp(middle))

    def fits(multiple: float) -> bool:
        return _rms((mean - multiple * old_mean) / np.sqrt(variance)) < SUSPICIOUS / 2

    if (fits(1.0) or fits(factor**2)) and not fits(factor):
        return None
    left = 4 * _rms(logs - middle)  # of the logarithms of variances, twice
    return None if _is_initial(old_mean, old_variance, mean, variance, left) else factor


def _is_initial(
    old_mean: Floats, old_variance: Floats, mean: Floats, variance: Floats, left: float
) -> bool:
    """Whether the initial 0 and 1, moved towards the data, leave no more than `left`."""
    fit = convergence(old_mean, old_variance, mean, variance, momentum=0.0)
    if fit is None:
        return False
    gone = 1 - fit.fraction
    expected = fit.fraction + gone * variance
    means = _rms((old_mean - gone * mean) / np.sqrt(old_variance))
    variances = _rms(np.log(old_variance) - np.log(expected))
    return means < SUSPICIOUS / 2 and variances < max(left, _LITTLE)


#: Of a logarithm: what training leaves between statistics and a number of updates, at least.
_LITTLE = 0.2


def told(factor: float) -> str:
    """`factor` as "255 times as much" or "1/255 as much"."""
    return f"{factor:.3g} times as much" if factor > 1 else f"1/{1 / factor:.3g} as much"


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
