"""What is measured where a BatchNormalization is called, and when is that refused?"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

import numpy as np

from bnfix.adapters import weights
from bnfix.adapters.backends.found import AboutPivot, Fused
from bnfix.adapters.base import Adapter
from bnfix.errors import ModelError, StatisticsError
from bnfix.numerics.moments import ChannelMoments


def moments_of(
    adapter: Adapter, layer: Any, tensor: Any, mask: Any, *, path: str
) -> ChannelMoments:
    """Moments of `tensor`, on its way into the BatchNormalization `layer`.

    A `mask` of None stands for the one that travels with `tensor`, if any does. On the processor
    itself sums in float64 cost nothing extra; from elsewhere only moments are fetched.
    """
    axis = axis_of(layer, len(tensor.shape), path=path)
    mask = adapter.mask_of(tensor) if mask is None else mask
    if adapter.accelerated:
        return merged(adapter, layer, adapter.moments(tensor, axis, mask))
    moments = ChannelMoments(weights.channels(layer))
    seen = None if mask is None else adapter.view(mask)
    moments.update(adapter.view(tensor), axis=axis, mask=seen)
    return moments


def merged(adapter: Adapter, layer: Any, part: AboutPivot) -> ChannelMoments:
    """What a device found of one part, as moments of `layer`'s channels."""
    count, pivot, mean, variance = map(adapter.view, part)
    moments = ChannelMoments(weights.channels(layer))
    moments.merge(count, pivot.astype(np.float64) + mean, variance)
    return moments


def of_sample(adapter: Adapter, layer: Any, fused: Fused) -> ChannelMoments:
    """As `merged`, of what a kernel found that tells the variance of a sample."""
    size, mean, variance = map(adapter.view, fused[1:])
    moments = ChannelMoments(weights.channels(layer))
    count = int(size) // mean.size
    moments.merge(count, mean, variance.astype(np.float64) * ((count - 1) / count))
    return moments


def check_finite(moments: ChannelMoments, *, path: str, where: str) -> None:
    """Refuse what is infinite or not a number; `where` is what it was measured on: "batch 3"."""
    if bad := moments.not_finite:
        raise StatisticsError(
            f"{path}: {bad} of {moments.mean.size} channels have a mean or variance that is not "
            f"finite in {where}. The layers before it overflow or divide by zero there; look at "
            "their weights and at that batch.",
            path=path,
        )


def axis_of(layer: Any, rank: int, *, path: str) -> int:
    """Channel axis of the BatchNormalization `layer` on inputs of `rank` dimensions."""
    axis = weights.channel_axis(layer, rank)
    if axis is None:
        raise StatisticsError(
            f"{path} normalizes over several axes at once, which recalibrate does not support. "
            "Leave it out with layers=.",
            path=path,
        )
    return axis


def check_counts(found: Mapping[str, ChannelMoments], *, ddof: int) -> None:
    """Refuse what no variance with `ddof` can be computed of; `found` is by path."""
    for path, moments in found.items():
        if moments.count <= ddof:
            raise StatisticsError(
                f"{path} saw {moments.count} values per channel; a variance with ddof={ddof} needs "
                "more than that. Pass more calibration data.",
                path=path,
            )


def unreached(norms: Iterable[str], reached: Container[str], *, batches: int) -> tuple[str, ...]:
    """A note for each of `norms`, by path, that no batch came to.

    Raises:
        ModelError: No batch came to any.
    """
    missed = [path for path in norms if path not in reached]
    seen = f"when the model runs on the calibration data (batches 0 to {batches - 1})"
    if missed and all(path not in reached for path in norms):
        raise ModelError(
            f"{missed[0]} is not called {seen}, nor is any other BatchNormalization asked for, so "
            "there is nothing to measure.",
            path=missed[0],
        )
    return tuple(f"{path} is not called {seen} and stays as it is" for path in missed)
