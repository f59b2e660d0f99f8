"""Inputs and outputs in lists, dicts and nests; tensors in unusual places of a call."""

from types import ModuleType
from typing import Any

import numpy as np

from .common import BIAS, IMAGE, SAME, SEQUENCE, classify
from .entry import KERAS3, Collection, custom

zoo = Collection()


@custom
def Blend(K: ModuleType) -> Any:
    class Blend(K.layers.Layer):
        """`x * scale + shift`, with whatever of the two is there."""

        def call(self, x: Any, scale: Any = None, shift: Any = None) -> Any:
            x = x if scale is None else x * scale
            return x if shift is None else x + shift

        def compute_output_shape(self, x_shape: Any, *_: Any, **__: Any) -> Any:
            return x_shape

    return Blend


def _normed(K: ModuleType, x: Any, units: int = 4) -> Any:
    return K.layers.BatchNormalization()(K.layers.Dense(units, **BIAS)(x))


@zoo.entry("functional", "bn", "multi_io")
def inputs_in_a_list(K: ModuleType) -> Any:
    L = K.layers
    image, vector = K.Input(IMAGE, name="image"), K.Input((5,), name="vector")
    x = L.BatchNormalization()(L.Conv2D(4, 3, **SAME)(image))
    x = L.Concatenate()([L.GlobalAveragePooling2D()(x), _normed(K, vector)])
    return K.Model([image, vector], [L.Dense(2, name="b")(x), L.Dense(3, name="a")(x)])


@zoo.entry("functional", "bn", "multi_io", "two_d_only")
def inputs_in_a_dict(K: ModuleType) -> Any:
    """Keys that are not in alphabetical order, and input names that are the keys."""
    inputs = {"wide": K.Input((5,), name="wide"), "narrow": K.Input((3,), name="narrow")}
    x = K.layers.Add()([_normed(K, inputs["wide"]), _normed(K, inputs["narrow"])])
    outputs = {"sum": K.layers.ReLU(name="sum")(x), "deep": K.layers.Dense(2, name="deep")(x)}
    return K.Model(inputs, outputs)


@zoo.entry("functional", "bn", "multi_io", "two_d_only")
def inputs_in_a_nest(K: ModuleType) -> Any:
    a, b, c = (K.Input((size,), name=name) for size, name in ((3, "a"), (4, "b"), (5, "c")))
    x, y, z = (_normed(K, tensor) for tensor in (a, b, c))
    total = K.layers.Add()([x, y, z])
    return K.Model({"pair": (a, b), "rest": [c]}, {"total": total, "parts": (x, [y, z])})


@zoo.entry("functional", "bn", "multi_io", "two_d_only")
def single_input_in_a_list(K: ModuleType) -> Any:
    inputs = K.Input((5,), name="only")
    return K.Model([inputs], [K.layers.Dense(3, **BIAS)(_normed(K, inputs))])


@zoo.entry("functional", "bn", "multi_io", "two_d_only")
def unused_branch_of_inputs(K: ModuleType) -> Any:
    """Two inputs, one of which only reaches the second output."""
    a, b = K.Input((3,), name="a"), K.Input((4,), name="b")
    x = _normed(K, a)
    return K.Model([a, b], [x, K.layers.Concatenate()([x, _normed(K, b)])])


@zoo.entry("functional", "bn", "custom", "two_d_only")
def constant_in_a_call(K: ModuleType) -> Any:
    inputs = K.Input((5,))
    x = Blend(K)()(_normed(K, inputs), np.float32([[0.5, 1, 2, 3]]), shift=np.float32(0.25))
    return K.Model(inputs, K.layers.BatchNormalization()(x))


@zoo.entry("functional", "bn", "custom", "two_d_only")
def keyword_tensors_in_a_call(K: ModuleType) -> Any:
    inputs = K.Input((5,))
    scale, shift = K.layers.Dense(4)(inputs), _normed(K, inputs)
    x = Blend(K)()(_normed(K, inputs), shift=shift, scale=scale)
    return K.Model(inputs, K.layers.BatchNormalization()(Blend(K)()(x, shift=scale)))


def _optional(K: ModuleType) -> Any:
    inputs = K.Input(SEQUENCE, name="x")
    scale = K.Input(SEQUENCE, name="scale", optional=True)
    x = K.layers.BatchNormalization()(K.layers.Dense(4, **BIAS)(Blend(K)()(inputs, scale)))
    return K.Model([inputs, scale], x)


@zoo.entry("functional", "bn", "custom", "multi_io", only=KERAS3)
def optional_input(K: ModuleType) -> Any:
    return _optional(K)


def _without_scale(rows: int, rng: np.random.Generator) -> Any:
    return [rng.standard_normal((rows, *SEQUENCE)).astype("float32"), None]


@zoo.entry(
    "functional",
    "bn",
    "custom",
    "multi_io",
    only=KERAS3,
    sample=_without_scale,
)
def optional_input_left_out(K: ModuleType) -> Any:
    return _optional(K)


@zoo.entry("functional", "bn")
def free_image_size(K: ModuleType) -> Any:
    L = K.layers
    inputs = K.Input((None, None, 3))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3, **SAME)(inputs)))
    return K.Model(inputs, classify(K, x))
