"""A BN beside each kind of linear layer, in each of its settings."""

from types import ModuleType
from typing import Any

from .common import BIAS, IMAGE, SAME, SEQUENCE, chain, classify, conv_bn_relu
from .entry import TF_KERAS, Collection

zoo = Collection()


@zoo.entry("functional", "bn")
def conv_bn(K: ModuleType) -> Any:
    inputs = K.Input(IMAGE)
    x = conv_bn_relu(K, inputs, 4)
    x = conv_bn_relu(K, x, 6, strides=2)
    return K.Model(inputs, classify(K, x))


@zoo.entry("functional", "bn")
def conv_with_bias(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        IMAGE,
        L.Conv2D(4, 3, padding="valid", **BIAS),
        L.BatchNormalization(epsilon=1e-5),
        L.Activation("elu"),
        L.Conv2D(5, (1, 3), strides=(2, 1), padding="same", **BIAS),
        L.BatchNormalization(momentum=0.9),
    )


@zoo.entry("functional", "bn")
def conv1d(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        SEQUENCE,
        L.Conv1D(4, 3, padding="causal", **BIAS),
        L.BatchNormalization(),
        L.ReLU(),
        L.Conv1D(6, 3, strides=2, use_bias=False),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn")
def conv3d(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        (4, 6, 6, 2),
        L.Conv3D(3, 3, **SAME),
        L.BatchNormalization(),
        L.ReLU(),
        L.Conv3D(4, (1, 2, 2), strides=(1, 2, 2), use_bias=False),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn")
def depthwise(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        IMAGE,
        L.DepthwiseConv2D(3, **SAME),
        L.BatchNormalization(),
        L.ReLU(),
        L.Conv2D(4, 1, use_bias=False),
        L.BatchNormalization(),
        L.DepthwiseConv2D(3, strides=2, use_bias=False),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn")
def depthwise_multiplier_2(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        IMAGE,
        L.DepthwiseConv2D(3, depth_multiplier=2, **SAME),
        L.BatchNormalization(),
        L.ReLU(),
        L.DepthwiseConv2D(3, depth_multiplier=3, use_bias=False),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn")
def depthwise_conv1d(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        SEQUENCE,
        L.DepthwiseConv1D(3, depth_multiplier=2, **SAME),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn")
def separable(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        IMAGE,
        L.SeparableConv2D(4, 3, depth_multiplier=2, **SAME),
        L.BatchNormalization(),
        L.ReLU(),
        L.SeparableConv2D(6, 3, use_bias=False),
        L.BatchNormalization(),
        L.Reshape((6, 36)),
        L.SeparableConv1D(4, 3, **BIAS),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn")
def conv_transpose(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        (4, 4, 3),
        L.Conv2DTranspose(4, 3, strides=2, **SAME),
        L.BatchNormalization(),
        L.ReLU(),
        L.Conv2DTranspose(2, 2, use_bias=False),
        L.BatchNormalization(),
        L.Reshape((9, 18)),
        L.Conv1DTranspose(4, 3, strides=2, **SAME),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn")
def conv3d_transpose(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K, (2, 3, 3, 2), L.Conv3DTranspose(3, 2, strides=2, **SAME), L.BatchNormalization()
    )


@zoo.entry("functional", "bn", "two_d_only")
def dense_rank2(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        (7,),
        L.Dense(6, **BIAS),
        L.BatchNormalization(),
        L.Activation("tanh"),
        L.Dense(5, use_bias=False),
        L.BatchNormalization(),
        L.Dense(4, activation="softmax", **BIAS),
    )


@zoo.entry("functional", "bn")
def dense_rank3(K: ModuleType) -> Any:
    L = K.layers
    return chain(K, SEQUENCE, L.Dense(6, **BIAS), L.BatchNormalization(), L.ReLU(), L.Dense(4))


@zoo.entry("functional", "bn")
def einsum_dense(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        SEQUENCE,
        L.EinsumDense("abc,cd->abd", output_shape=(6, 4), bias_axes="d", **BIAS),
        L.BatchNormalization(),
        # The bias spans two axes here, and so does the kernel.
        L.EinsumDense("abc,bcd->abd", output_shape=(6, 3), bias_axes="bd", **BIAS),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn")
def dilated_conv(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        IMAGE,
        L.Conv2D(4, 3, dilation_rate=2, **SAME),
        L.BatchNormalization(),
        L.ReLU(),
        L.DepthwiseConv2D(3, dilation_rate=2, **SAME),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn")
def grouped_conv(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        (8, 8, 4),
        L.Conv2D(6, 3, groups=2, **SAME),
        L.BatchNormalization(),
        L.ReLU(),
        L.Conv2D(6, 3, groups=6, use_bias=False),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn")
def channels_first(K: ModuleType) -> Any:
    L = K.layers
    first = {"data_format": "channels_first"}
    return chain(
        K,
        (3, 8, 8),
        L.Conv2D(4, 3, **BIAS, **first),
        L.BatchNormalization(axis=1),
        L.ReLU(),
        L.AveragePooling2D(2, **first),
        L.Conv2D(5, 2, use_bias=False, **first),
        L.BatchNormalization(axis=1),
        L.GlobalAveragePooling2D(**first),
    )


@zoo.entry("functional", "bn")
def conv_with_fused_relu(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        IMAGE,
        L.Conv2D(4, 3, activation="relu", **BIAS),
        L.BatchNormalization(),
        L.Conv2D(5, 3, activation="linear", **BIAS),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn", only=TF_KERAS)
def locally_connected(K: ModuleType) -> Any:
    L = K.layers
    return chain(K, IMAGE, L.LocallyConnected2D(4, 3, **BIAS), L.BatchNormalization())
