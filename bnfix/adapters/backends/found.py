"""What a library finds of a batch, by channel, while it is still in its tensors."""

from __future__ import annotations

from typing import Any, NamedTuple


class Fused(NamedTuple):
    """A batch normalized by itself, and what was found for that.

    Attributes:
        normalized: As the batch.
        size: Number of its values, those of all channels together.
        mean: By channel.
        sample_variance: By channel: squared deviations by one less than the number of values.
    """

    normalized: Any
    size: Any
    mean: Any
    sample_variance: Any


class AboutPivot(NamedTuple):
    """Mean and variance of a batch, by channel, as they come off a device.

    Both are in the values' own precision, in which a mean that is large against their deviation
    has few digits left for it. So the mean is told in two parts.

    Attributes:
        count: Number of values, one or by channel.
        pivot: About the mean.
        mean: Of what the values are apart from `pivot`.
        variance: That of the population; mean and variance of an empty sample are 0.
    """

    count: Any
    pivot: Any
    mean: Any
    variance: Any
