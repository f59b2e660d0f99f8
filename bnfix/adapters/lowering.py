"""The cheapest layer of Keras's own that computes what a BatchNormalization does at inference.

A 1x1 depthwise convolution where there are images with channels last: one operation, bias included,
which compilers fuse with the activation behind it. Rescaling elsewhere, whose numbers are part of
its configuration.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bnfix.numerics.norm import NormSpec


def lowered(keras: Any, layer: Any, norm: NormSpec, rank: int, dtype: str | None) -> Any:
    """A new, unbuilt layer in place of the BatchNormalization `layer` on inputs of `rank`."""
    options = {"name": layer.name, "dtype": dtype or layer.dtype_policy}
    if rank == 4 and norm.axis == 3:
        return keras.layers.DepthwiseConv2D(1, data_format="channels_last", **options)
    behind = [1] * (rank - 1 - norm.axis)
    scale, shift = (np.reshape(part, (-1, *behind)).tolist() for part in norm.affine())
    return keras.layers.Rescaling(scale, shift, **options)


def write(layer: Any, norm: NormSpec) -> None:
    """Give `layer`, which `lowered` has made for `norm`, its weights, if it has some."""
    if layer.weights:
        scale, shift = norm.affine()
        kernel, bias = layer.weights
        kernel.assign(scale.reshape(tuple(kernel.shape)))
        bias.assign(shift)
