"""Refuse statistics that are not finite, naming where they come from."""

from __future__ import annotations

from bnfix.errors import StatisticsError
from bnfix.numerics.moments import ChannelMoments


def check_finite(moments: ChannelMoments, path: str, where: str) -> None:
    """Raise if any channel is infinite or not a number.

    Args:
        moments: Of the BatchNormalization at `path`, up to now.
        where: What was added last: "batch 3".
    """
    if bad := moments.not_finite:
        raise StatisticsError(
            f"{path}: {bad} of {moments.mean.size} channels have a mean or variance that is not "
            f"finite in {where}. The layers before it overflow or divide by zero there; look at "
            "their weights and at that batch. Nothing was changed.",
            path=path,
        )
