"""Into how many groups are channels divided (Wu & He 2018, arXiv:1803.08494)?

The layers of both Kerases need a divisor of the number of channels. A group of which a row holds a
single value is its own mean, so that nothing is left of the data but beta.
"""

from __future__ import annotations

#: The paper's default, and the fewest channels that its groups have.
USUAL_GROUPS = 32
USUAL_WIDTH = 16

#: Fewest values of which mean and variance mean anything.
FEWEST = 8

#: What a search tries, next to one group a channel.
_TRIED = (1, 2, 4, 8, 16, 32)


def divisors(channels: int) -> list[int]:
    """All numbers that divide `channels`, from 1 up."""
    return [number for number in range(1, channels + 1) if channels % number == 0]


def allowed(channels: int, values: int | None) -> list[int]:
    """Numbers of groups that leave each of them more than one value of a row, from 1 up.

    Args:
        channels: To be divided.
        values: Of a row in each channel: 1 where there are no axes beyond batch and channels; None
            where it is not known, and taken to be more than 1.
    """
    alone = values == 1
    return [groups for groups in divisors(channels) if not (alone and groups == channels)]


def at_most(channels: int, values: int | None, wanted: int) -> int | None:
    """The largest allowed number of groups up to `wanted`; None where there is none."""
    return max((each for each in allowed(channels, values) if each <= wanted), default=None)


def usual(channels: int, values: int | None) -> int | None:
    """32 groups, or as many fewer as it takes for 16 channels in each."""
    return at_most(channels, values, max(min(USUAL_GROUPS, channels // USUAL_WIDTH), 1))


def candidates(channels: int, values: int | None) -> list[int]:
    """What is worth a try where data decides: 1, 2, 4 to 32 groups, and one a channel.

    Two values standardize to -1 and 1 whatever they are, and of a few more little is left. Such
    groups fit the data at hand by steep slopes, so only the smallest number of groups may have
    fewer than `FEWEST` values.
    """
    tried = {at_most(channels, values, wanted) for wanted in (*_TRIED, channels)}
    found = sorted(each for each in tried if each is not None)
    wide = [each for each in found[1:] if values is None or values * channels // each >= FEWEST]
    return [*found[:1], *wide]
