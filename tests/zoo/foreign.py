"""BN whose axis is not the channel axis of the layer before it, or is reached through others.

The sizes agree (8x8 images with 8 channels), so a fold that does not look at axes gives a model of
the right shapes and the wrong values.
"""

from types import ModuleType
from typing import Any

from .common import BIAS, IMAGE, SAME, chain
from .entry import Collection

zoo = Collection()


@zoo.entry("functional", "bn")
def foreign_axis_conv(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        (8, 8, 3),
        L.Conv2D(8, 3, **SAME),
        L.BatchNormalization(axis=1),
        L.Conv2D(8, 3, **SAME),
        L.BatchNormalization(axis=2),
        L.Conv2D(8, 3, **SAME),
        L.BatchNormalization(axis=3),
    )


@zoo.entry("functional", "bn")
def foreign_axis_dense(K: ModuleType) -> Any:
    L = K.layers
    return chain(K, (6, 6), L.Dense(6, **BIAS), L.BatchNormalization(axis=1), L.ReLU())


@zoo.entry("functional", "bn")
def foreign_axis_channels_first(K: ModuleType) -> Any:
    L = K.layers
    first = {"data_format": "channels_first"}
    return chain(
        K,
        (3, 8, 8),
        L.Conv2D(8, 3, padding="same", **BIAS, **first),
        L.BatchNormalization(),  # the width, not the channels
        L.ReLU(),
    )


@zoo.entry("functional", "bn")
def permute_between(K: ModuleType) -> Any:
    """After Permute, axis 1 holds the channels and axis -1 does not."""
    L = K.layers
    return chain(
        K,
        (8, 8, 3),
        L.Conv2D(8, 3, **SAME),
        L.Permute((3, 1, 2)),
        L.BatchNormalization(axis=1),
        L.Permute((2, 3, 1)),
        L.Conv2D(8, 3, **SAME),
        L.Permute((2, 3, 1)),
        L.BatchNormalization(axis=-1),
    )


@zoo.entry("functional", "bn")
def pooling_between(K: ModuleType) -> Any:
    """Average pooling commutes with a BN, max pooling with one of positive gamma only."""
    L = K.layers
    return chain(
        K,
        (16, 16, 3),
        L.Conv2D(4, 3, **SAME),
        L.AveragePooling2D(2),
        L.BatchNormalization(),
        L.ReLU(),
        L.Conv2D(5, 3, **SAME),
        L.MaxPooling2D(2),
        L.BatchNormalization(),
        L.ReLU(),
        L.Conv2D(6, 3, **SAME),
        L.AveragePooling2D(2, padding="same"),
        L.BatchNormalization(),
        L.ReLU(),
        L.Conv2D(6, 1, **BIAS),
        L.GlobalAveragePooling2D(),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn")
def padding_between(K: ModuleType) -> Any:
    """Zeros added before the BN become `beta - s * mean` after it; cropping adds nothing."""
    L = K.layers
    return chain(
        K,
        IMAGE,
        L.Conv2D(4, 3, **BIAS),
        L.ZeroPadding2D(1),
        L.BatchNormalization(),
        L.ReLU(),
        L.Conv2D(5, 3, **BIAS),
        L.Cropping2D(1),
        L.BatchNormalization(),
        L.ReLU(),
        L.Conv2D(4, 1, **BIAS),
        L.UpSampling2D(2),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn")
def reshape_between(K: ModuleType) -> Any:
    """The first reshape keeps the channels, the second mixes them, Flatten makes them columns."""
    L = K.layers
    return chain(
        K,
        IMAGE,
        L.Conv2D(4, 3, **SAME),
        L.Reshape((64, 4)),
        L.BatchNormalization(),
        L.ReLU(),
        L.Dense(4, **BIAS),
        L.Reshape((64, 2, 2)),
        L.BatchNormalization(),
        L.Conv2D(2, (16, 1), strides=(16, 1), **BIAS),
        L.Flatten(),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn", "stochastic")
def dropout_between(K: ModuleType) -> Any:
    """Dropout is the identity at inference, and so commutes with the BN there."""
    L = K.layers
    return chain(
        K,
        IMAGE,
        L.Conv2D(4, 3, **BIAS),
        L.Dropout(0.3),
        L.BatchNormalization(),
        L.Activation("linear"),
        L.Conv2D(4, 3, **BIAS),
        L.SpatialDropout2D(0.3),
        L.Activation("linear"),
        L.BatchNormalization(),
    )
