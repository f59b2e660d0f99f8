"""The few shapes and blocks that several themes use."""

from types import ModuleType
from typing import Any

IMAGE = (8, 8, 3)
SEQUENCE = (6, 5)

# A zero bias would hide a fold that forgets it; glorot works for vectors too.
BIAS = {"bias_initializer": "glorot_uniform"}
SAME = {"padding": "same", **BIAS}


def chain(K: ModuleType, shape: tuple[int | None, ...], *layers: Any, **input_options: Any) -> Any:
    """Functional model that applies `layers` one after the other."""
    inputs = K.Input(shape, **input_options)
    return K.Model(inputs, apply(inputs, *layers))


def apply(x: Any, *layers: Any) -> Any:
    """`x` through each of `layers`."""
    for layer in layers:
        x = layer(x)
    return x


def conv_bn_relu(K: ModuleType, x: Any, filters: int, size: int = 3, **options: Any) -> Any:
    """The block that most networks consist of."""
    L = K.layers
    options = {"padding": "same", "use_bias": False, **options}
    return L.ReLU()(L.BatchNormalization()(L.Conv2D(filters, size, **options)(x)))


def classify(K: ModuleType, x: Any, classes: int = 4, **options: Any) -> Any:
    """Pool the image `x` and classify it."""
    L = K.layers
    x = L.GlobalAveragePooling2D()(x)
    return L.Dense(classes, activation="softmax", **{**BIAS, **options})(x)
