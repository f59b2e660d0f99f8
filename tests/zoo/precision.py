"""Other dtypes: 16-bit compute, float64, one layer unlike the rest, 8-bit and low-rank kernels.

Policies go to each layer as `dtype=`; where a global one is the point, it is put back at once.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from .common import BIAS, IMAGE, SAME, chain, classify, conv_bn_relu
from .entry import KERAS3, Collection

zoo = Collection()


@contextmanager
def _global_policy(K: ModuleType, name: str) -> Iterator[None]:
    before = K.mixed_precision.global_policy()
    K.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        K.mixed_precision.set_global_policy(before)


@contextmanager
def _floatx(K: ModuleType, name: str) -> Iterator[None]:
    before, policy = K.backend.floatx(), K.mixed_precision.global_policy()
    K.backend.set_floatx(name)
    K.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        K.backend.set_floatx(before)
        K.mixed_precision.set_global_policy(policy)


def _by_layer(K: ModuleType, dtype: str) -> Any:
    L = K.layers
    return chain(
        K,
        IMAGE,
        L.Conv2D(4, 3, dtype=dtype, **SAME),
        L.BatchNormalization(dtype=dtype),
        L.ReLU(dtype=dtype),
        L.DepthwiseConv2D(3, dtype=dtype, **SAME),
        L.BatchNormalization(dtype=dtype),
        L.GlobalAveragePooling2D(dtype=dtype),
        L.Dense(4, activation="softmax", dtype="float32", **BIAS),
    )


@zoo.entry("functional", "bn", "mixed")
def mixed_float16(K: ModuleType) -> Any:
    return _by_layer(K, "mixed_float16")


@zoo.entry("functional", "bn", "mixed")
def mixed_bfloat16(K: ModuleType) -> Any:
    return _by_layer(K, "mixed_bfloat16")


@zoo.entry("functional", "bn", "mixed")
def mixed_float16_global(K: ModuleType) -> Any:
    """The official recipe: a global policy, and a float32 softmax at the end."""
    with _global_policy(K, "mixed_float16"):
        inputs = K.Input(IMAGE)
        x = conv_bn_relu(K, conv_bn_relu(K, inputs, 4), 4)
        x = K.layers.Dense(4, **BIAS)(K.layers.GlobalAveragePooling2D()(x))
        return K.Model(inputs, K.layers.Activation("softmax", dtype="float32")(x))


@zoo.entry("functional", "bn", "mixed")
def mixed_layers(K: ModuleType) -> Any:
    """Conv and BN of different dtypes: folding moves a value across a rounding."""
    L = K.layers
    return chain(
        K,
        IMAGE,
        L.Conv2D(4, 3, dtype="mixed_float16", **BIAS),
        L.BatchNormalization(dtype="float32"),
        L.ReLU(),
        L.Conv2D(4, 3, dtype="float32", **BIAS),
        L.BatchNormalization(dtype="mixed_float16"),
        L.Conv2D(4, 1, dtype="float64", **BIAS),
        L.BatchNormalization(dtype="float32"),
    )


@zoo.entry("functional", "bn", "mixed")
def float16_throughout(K: ModuleType) -> Any:
    """16-bit variables too: statistics are stored in half precision."""
    L = K.layers
    return chain(
        K,
        IMAGE,
        L.Conv2D(4, 3, dtype="float16", **BIAS),
        L.BatchNormalization(dtype="float16"),
        L.ReLU(dtype="float16"),
    )


@zoo.entry("functional", "bn", "float64")
def float64(K: ModuleType) -> Any:
    L = K.layers
    wide = {"dtype": "float64"}
    return chain(
        K,
        IMAGE,
        L.Conv2D(4, 3, **BIAS, **wide),
        L.BatchNormalization(**wide),
        L.ReLU(**wide),
        L.DepthwiseConv2D(3, depth_multiplier=2, **BIAS, **wide),
        L.BatchNormalization(**wide),
        L.Flatten(**wide),
        L.Dense(3, **BIAS, **wide),
        **wide,
    )


@zoo.entry("functional", "bn", "float64")
def float64_global(K: ModuleType) -> Any:
    with _floatx(K, "float64"):
        inputs = K.Input(IMAGE)
        x = conv_bn_relu(K, conv_bn_relu(K, inputs, 4), 5, strides=2)
        return K.Model(inputs, classify(K, x))


@zoo.entry("functional", "bn", "mixed", only=KERAS3)
def quantized_dense(K: ModuleType) -> Any:
    """8-bit kernels: `kernel` is no float variable that a fold could scale."""
    L = K.layers
    model = chain(
        K,
        (7,),
        L.Dense(6, **BIAS),
        L.BatchNormalization(),
        L.ReLU(),
        L.Dense(5, **BIAS),
        L.BatchNormalization(),
    )
    with warnings.catch_warnings():  # Keras warns of each layer that stays as it is
        warnings.simplefilter("ignore")
        model.quantize("int8")
    return model


@zoo.entry("functional", "bn", only=KERAS3)
def low_rank_dense(K: ModuleType) -> Any:
    """LoRA: the kernel is a sum of a frozen variable and a product of two others."""
    L = K.layers
    dense = L.Dense(6, **BIAS)
    model = chain(K, (7,), dense, L.BatchNormalization(), L.ReLU())
    dense.enable_lora(2)
    dense.lora_kernel_b.assign(dense.lora_kernel_b + 0.1)  # starts as zeros: would change nothing
    return model
