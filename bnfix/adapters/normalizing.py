"""How does a BatchNormalization run by statistics that it does not hold yet?

Of Keras's own classes it is known what they compute at inference, so the few numbers of

    y = scale * x + shift

stand for the layer (`bnfix.numerics.norm`). A subclass may compute anything: a copy of it gets the
statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bnfix.adapters import weights
from bnfix.adapters.base import Adapter
from bnfix.graph.definition import TensorSpec
from bnfix.numerics.moments import Floats


def normalizer(
    adapter: Adapter, layer: Any, shape: tuple[int | None, ...], mean: Floats, variance: Floats
) -> Callable[..., Any]:
    """What `layer`, called on inputs of `shape`, would compute with `mean` and `variance`."""
    norm = weights.read_norm(layer, len(shape))
    if norm is None or not adapter.is_own(layer):
        return _copy(adapter, layer, shape, mean, variance)
    norm = replace(norm, moving_mean=mean, moving_variance=variance)
    computes = str(layer.compute_dtype)
    # As the layers themselves do: 16-bit inputs are normalized in float32 and rounded once.
    wide = "float64" if computes == "float64" else "float32"
    along = [norm.channels if axis == norm.axis else 1 for axis in range(len(shape))]
    scale, shift = (
        adapter.to_tensor(part.reshape(along), TensorSpec(tuple(along), wide))
        for part in norm.affine()
    )

    def normalize(inputs: Any, mask: Any = None, training: bool = False) -> Any:
        values = adapter.cast(adapter.cast(inputs, computes), wide)
        result = adapter.cast(adapter.affine(values, scale, shift), computes)
        return adapter.with_mask(result, adapter.mask_of(inputs))

    return normalize


def _copy(
    adapter: Adapter, layer: Any, shape: tuple[int | None, ...], mean: Floats, variance: Floats
) -> Any:
    copy = adapter.clone_layer(layer)
    copy.build(shape)
    for ours, theirs in zip(copy.weights, layer.weights, strict=True):
        ours.assign(theirs)
    weights.write_statistics(copy, mean, variance)
    return copy
