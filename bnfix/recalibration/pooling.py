"""Several calls of one BatchNormalization share the statistics of all that they are given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnfix.numerics.moments import ChannelMoments

#: By path, the moments of each call, in order.
Calls = dict[str, list[ChannelMoments]]

#: How far `partway` goes: what would swing by -1/2 from pass to pass is there at once.
_STEP = 2 / 3


def pool(parts: Sequence[ChannelMoments]) -> ChannelMoments:
    """The moments of all that `parts`, at least one, have seen."""
    pooled = ChannelMoments(parts[0].mean.size)
    for part in parts:
        pooled.absorb(part)
    return pooled


def partway(before: Calls, calls: Calls) -> Calls:
    """Of each call, the moments of values of which `_STEP` stem from `calls`."""

    def mixed(old: ChannelMoments, new: ChannelMoments) -> ChannelMoments:
        both = ChannelMoments(new.mean.size)
        both.absorb(old, weight=1 - _STEP)
        both.absorb(new, weight=_STEP)
        return both

    return {
        path: [mixed(*pair) for pair in zip(before[path], calls[path], strict=True)]
        for path in calls
    }


def apart(one: ChannelMoments, other: ChannelMoments, epsilon: float) -> float:
    """Largest difference of mean or standard deviation, in standard deviations of `other`."""
    if not one.count or not other.count:
        return 0.0
    sigma, wanted = (np.sqrt(moments.variance() + epsilon) for moments in (one, other))
    differences = np.maximum(np.abs(one.mean - other.mean), np.abs(sigma - wanted))
    return float(np.max(differences / wanted))
