"""What is measured where a BatchNormalization is called, and when is that refused?

A part is what one batch contributes to one call: count, mean and population variance per channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bnfix.adapters import weights
from bnfix.adapters.base import Adapter
from bnfix.errors import ModelError, StatisticsError, gist
from bnfix.numerics.moments import ChannelMoments

Part = tuple[Any, Any, Any]


def measure(adapter: Adapter, layer: Any, tensor: Any, mask: Any, *, path: str) -> Part:
    """The part that `tensor` is, on its way into the BatchNormalization `layer`.

    A `mask` of None stands for the one that travels with `tensor`, if any does.
    """
    axis = weights.channel_axis(layer, len(tensor.shape))
    if axis is None:
        raise several_axes(path)
    return adapter.moments(tensor, axis, adapter.mask_of(tensor) if mask is None else mask)


def merge(
    adapter: Adapter, moments: ChannelMoments | None, part: Part, *, path: str, batch: int
) -> ChannelMoments:
    """`moments` (None: nothing seen yet) with `part` added, which batch `batch` has brought.

    Raises:
        StatisticsError: A mean or variance in `part` is not finite.
    """
    count, mean, variance = (np.asarray(adapter.to_numpy(item)) for item in part)
    bad = int(np.sum((count > 0) & ~(np.isfinite(mean) & np.isfinite(variance))))
    if bad:
        raise StatisticsError(
            f"{path}: {bad} of {mean.size} channels have a mean or variance that is not finite in "
            f"batch {batch}. The layers before it overflow or divide by zero there; look at their "
            "weights and at that batch. Nothing was changed.",
            path=path,
        )
    moments = ChannelMoments(mean.size) if moments is None else moments
    moments.merge(count, mean, variance)
    return moments


def several_axes(path: str) -> StatisticsError:
    return StatisticsError(
        f"{path} normalizes over several axes at once, which recalibrate does not support. Leave "
        "it out with layers=. Nothing was changed.",
        path=path,
    )


def check_counts(found: Mapping[str, ChannelMoments], *, ddof: int) -> None:
    """Refuse what no variance with `ddof` can be computed of; `found` is by path."""
    for path, moments in found.items():
        if moments.count <= ddof:
            raise StatisticsError(
                f"{path} saw {moments.count} values per channel; a variance with ddof={ddof} needs "
                "more than that. Pass more calibration data. Nothing was changed.",
                path=path,
            )


def unreached(path: str, *, batches: int) -> ModelError:
    return ModelError(
        f"{path} is not called when the model runs on the calibration data (batches 0 to "
        f"{batches - 1}), so it has no inputs to measure. Leave it out with layers=. "
        "Nothing was changed.",
        path=path,
    )


def failure(error: BaseException, *, where: str, batch: int | None = None) -> ModelError:
    """How to say that the model raised `error`; `where` is the path of a layer."""
    data = "the calibration data" if batch is None else f"batch {batch} of the calibration data"
    return ModelError(
        f"{where} raised {gist(error)} on {data}. The model has to run on the data before it can "
        "be recalibrated; call model(x) on a batch to see it fail alone. Nothing was changed.",
        path=where,
    )


def raised_in(adapter: Adapter, model: Any, error: BaseException) -> str:
    """Path of the innermost layer of `model` within whose code `error` was raised."""
    paths = {id(layer): path for path, layer in adapter.tree(model)}
    where, frame = model.name, error.__traceback__
    while frame is not None:
        where = paths.get(id(frame.tb_frame.f_locals.get("self")), where)
        frame = frame.tb_next
    return where
