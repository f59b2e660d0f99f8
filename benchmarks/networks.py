"""Networks that are measured. Weights are random, which changes no time and needs no download."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

#: What a dialect is called in tables.
TITLES = {"keras": "Keras 3", "tf_keras": "tf_keras"}
#: Blocks and channels of each stage of RepVGG-A0; the first block of each halves the image.
_STAGES = ((1, 48), (2, 48), (4, 96), (14, 192), (1, 1280))


def keras(dialect: str) -> Any:
    """The module `keras` or `tf_keras`."""
    return importlib.import_module(dialect)


def network(K: Any, name: str, size: int) -> Any:
    """One of keras.applications or of `_OWN`, for images of `size` x `size`."""
    K.utils.set_random_seed(0)
    if name in _OWN:
        model = _OWN[name](K, size)
    else:
        make = getattr(K.applications, name)
        model = make(weights=None, input_shape=(size, size, 3))
    randomise_statistics(model)
    return model


def images(count: int, size: int) -> Any:
    """`(count, size, size, 3)`, float32, from 0 to 1."""
    return np.random.default_rng(0).random((count, size, size, 3), np.float32)


def randomise_statistics(model: Any) -> None:
    """Statistics as training leaves them; as initialised, a wrong fold would not show."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if "BatchNormalization" in type(layer).__name__:
            layer.moving_mean.assign(rng.normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, layer.moving_variance.shape))


def cloned(K: Any, model: Any) -> Any:
    """A copy by Keras's own means, which copy no flags, states or compilation."""
    copy = K.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def chain(K: Any, depth: int, *, channels: int = 16, size: int = 32, kernel: int = 3) -> Any:
    """`depth` convolutions, each with a BN and a ReLU, one after the other."""
    L = K.layers
    x = inputs = K.Input((size, size, 3))
    for _ in range(depth):
        x = L.Conv2D(channels, kernel, padding="same", use_bias=False)(x)
        x = L.ReLU()(L.BatchNormalization()(x))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + 20 * depth)  # Keras walks the graph of a new model by recursion
    model = K.Model(inputs, x)
    sys.setrecursionlimit(limit)
    return model


def heavy(K: Any, channels: int, depth: int) -> Any:
    """Convolutions and BNs on images so small that weights count; 9 `channels`^2 each."""
    x = inputs = K.Input((8, 8, channels))
    for _ in range(depth):
        x = K.layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
        x = K.layers.ReLU()(K.layers.BatchNormalization()(x))
    return K.Model(inputs, x)


def _repvgg(K: Any, size: int) -> Any:
    """RepVGG-A0 as it is trained: 22 blocks of two or three branches (Ding et al. 2021)."""
    x = inputs = K.Input((size, size, 3))
    for number, channels in _STAGES:
        for place in range(number):
            x = _repvgg_block(K, x, channels, strides=1 if place else 2)
    x = K.layers.GlobalAveragePooling2D()(x)
    return K.Model(inputs, K.layers.Dense(1000)(x))


def _repvgg_block(K: Any, x: Any, channels: int, strides: int) -> Any:
    L = K.layers
    options = {"strides": strides, "padding": "same", "use_bias": False}
    branches = [L.BatchNormalization()(L.Conv2D(channels, k, **options)(x)) for k in (3, 1)]
    if strides == 1 and x.shape[-1] == channels:
        branches.append(L.BatchNormalization()(x))
    return L.ReLU()(L.Add()(branches))


def _yolo(K: Any, size: int) -> Any:
    """A detector in the manner of YOLOv8n: split stages, pooled pyramid, heads at three scales."""
    L = K.layers
    inputs = K.Input((size, size, 3))
    x = _unit(K, _unit(K, inputs, 16, 3, 2), 32, 3, 2)
    scales = []
    for channels, depth in ((64, 1), (128, 2), (256, 1)):
        x = _split(K, _unit(K, x, channels, 3, 2), channels, depth)
        scales.append(x)
    pooled = [_unit(K, x, 128, 1)]
    for _ in range(3):
        pooled.append(L.MaxPooling2D(5, 1, padding="same")(pooled[-1]))
    small, middle, x = *scales[:2], _unit(K, L.Concatenate()(pooled), 256, 1)
    deep = x
    middle = _split(K, L.Concatenate()([L.UpSampling2D()(x), middle]), 128, 1)
    small = _split(K, L.Concatenate()([L.UpSampling2D()(middle), small]), 64, 1)
    heads = [
        L.Conv2D(4 + 80, 1)(_unit(K, _unit(K, scale, 64, 3), 64, 3))
        for scale in (small, middle, deep)
    ]
    return K.Model(inputs, L.Concatenate(axis=1)([L.Reshape((-1, 84))(head) for head in heads]))


def _unit(K: Any, x: Any, channels: int, kernel: int, strides: int = 1) -> Any:
    conv = K.layers.Conv2D(channels, kernel, strides, padding="same", use_bias=False)
    return K.layers.Activation("silu")(K.layers.BatchNormalization()(conv(x)))


def _split(K: Any, x: Any, channels: int, depth: int) -> Any:
    """Half of the channels go through `depth` residual steps, all of which are joined."""
    half = channels // 2
    parts = [_unit(K, x, half, 1), _unit(K, x, half, 1)]
    for _ in range(depth):
        step = _unit(K, _unit(K, parts[-1], half, 3), half, 3)
        parts.append(K.layers.Add()([parts[-1], step]))
    return _unit(K, K.layers.Concatenate()(parts), channels, 1)


def _small(K: Any, size: int) -> Any:
    return chain(K, 4, size=size)


_OWN = {"RepVGG-A0": _repvgg, "YOLO-like": _yolo, "small": _small}
