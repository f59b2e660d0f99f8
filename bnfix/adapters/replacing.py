"""Layers of Keras's own, or of the user's, in place of a BatchNormalization.

An affine map becomes a 1x1 depthwise convolution where there are images with channels last: one
operation, bias included, which compilers fuse with the activation behind it. Rescaling elsewhere,
whose numbers are part of its configuration.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bnfix.errors import UnsupportedModelError
from bnfix.graph.definition import Node
from bnfix.graph.edit import Given, Lowered, Plain, Replacement
from bnfix.numerics.norm import GroupNormSpec

#: What a GroupNormalization takes over of a BatchNormalization besides numbers.
_PARTS = (
    *("gamma_initializer", "gamma_regularizer", "gamma_constraint"),
    *("beta_initializer", "beta_regularizer", "beta_constraint"),
)


def replacement(keras: Any, old: Any, new: Replacement, rank: int, dtype: str | None) -> Any:
    """The layer that `new` says, in place of the BatchNormalization `old` on inputs of `rank`.

    Args:
        keras: `keras` or `tf_keras`.
        old: Lends its name, and its dtype policy unless there is a `dtype`.
        new: What is wanted.
        rank: Of the inputs.
        dtype: To compute in, or None.
    """
    if isinstance(new, Given):
        return new.layer
    options = {"name": old.name, "dtype": dtype or old.dtype_policy}
    if isinstance(new, GroupNormSpec):
        return keras.layers.GroupNormalization(
            new.groups,
            axis=-1 if new.axis == rank - 1 else new.axis,
            epsilon=new.epsilon,
            scale=new.gamma is not None,
            center=new.beta is not None,
            **{part: getattr(old, part) for part in _PARTS},
            **options,
        )
    if isinstance(new, Plain):
        axis, scale, shift = new.axis, new.scale, new.shift
    elif rank == 4 and new.norm.axis == 3:
        return keras.layers.DepthwiseConv2D(1, data_format="channels_last", **options)
    else:
        axis, (scale, shift) = new.norm.axis, new.norm.affine()
    behind = [1] * (rank - 1 - axis)
    scale, shift = (np.reshape(part, (-1, *behind)) for part in (scale, shift))
    if dtype is None:  # a list can be saved; Keras 3 rounds it to float32, whatever it computes in
        scale, shift = scale.tolist(), shift.tolist()
    return keras.layers.Rescaling(scale, shift, **options)


def build(keras: Any, old: Any, new: GroupNormSpec, shape: tuple[int | None, ...]) -> Any:
    """As `replacement`, built for inputs of `shape` and with its weights."""
    layer = replacement(keras, old, new, len(shape), None)
    layer.build(shape)
    write(layer, new, fresh=True)
    return layer


def check_shape(node: Node, made: Any) -> None:
    """A replacement must leave the shape as it is, since what follows was made for that."""
    wanted, seen = node.outputs[0].shape, getattr(made, "shape", None)
    if seen is None or tuple(seen) != wanted:
        raise UnsupportedModelError(
            f"{node.name}: the layer in its place makes {made if seen is None else tuple(seen)}"
            f" of inputs of shape {wanted}; it has to keep the shape.",
            path=node.name,
        )


def write(layer: Any, new: Replacement, *, fresh: bool) -> None:
    """Give the built `layer`, made by `replacement`, its weights.

    Args:
        layer: What has been made.
        new: What it was made for.
        fresh: Whether it was not built before it was put into its place; else the user has
            given it weights, and these stay.
    """
    if isinstance(new, GroupNormSpec):
        _write_affine(layer, new.gamma, new.beta)
    elif isinstance(new, Given):
        if fresh and new.norm is not None:
            _write_affine(layer, new.norm.gamma, new.norm.beta)
            _write_where_it_fits(layer, "moving_mean", new.norm.moving_mean)
            _write_where_it_fits(layer, "moving_variance", new.norm.moving_variance)
    elif isinstance(new, Lowered) and layer.weights:
        _write_kernel(layer, new)


def _write_kernel(layer: Any, new: Lowered) -> None:
    scale, shift = new.norm.affine()
    kernel, bias = layer.weights
    kernel.assign(scale.reshape(tuple(kernel.shape)))
    bias.assign(shift)


def _write_affine(layer: Any, gamma: Any, beta: Any) -> None:
    _write_where_it_fits(layer, "gamma", gamma)
    _write_where_it_fits(layer, "beta", beta)


def _write_where_it_fits(layer: Any, name: str, values: Any) -> None:
    variable: Any = getattr(layer, name, None)
    if values is not None and hasattr(variable, "assign") and np.size(values) == _size(variable):
        variable.assign(np.reshape(values, tuple(variable.shape)))


def _size(variable: Any) -> int:
    return math.prod(variable.shape)
