"""Functions instead of layers: Lambda, operators on symbolic tensors, keras.ops, TFOpLambda."""

from types import ModuleType
from typing import Any

from .common import BIAS, IMAGE, SAME, SEQUENCE, chain, classify
from .entry import KERAS3, TF_KERAS, Collection, custom

zoo = Collection()


@custom
def affine(K: ModuleType) -> Any:
    def affine(x: Any, factor: float = 1.0) -> Any:
        return factor * x + 0.5

    return affine


@zoo.entry("functional", "bn", "lambda")
def lambda_layer(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        IMAGE,
        L.Conv2D(4, 3, **BIAS),
        L.Lambda(lambda x: x * 2.0 - 1.0, name="rescale"),
        L.BatchNormalization(),
        L.Lambda(lambda x: x[:, 1:]),
    )


@zoo.entry("functional", "bn", "lambda", "custom")
def lambda_of_named_function(K: ModuleType) -> Any:
    L = K.layers
    scaled = L.Lambda(affine(K), arguments={"factor": 0.5})
    return chain(K, IMAGE, L.Conv2D(4, 3, **BIAS), L.BatchNormalization(), scaled)


@zoo.entry("functional", "bn", "lambda", "multi_io", only=TF_KERAS)
def lambda_of_tf_functions(K: ModuleType) -> Any:
    """The function closes over the module `tf` and takes a list."""
    import tensorflow as tf

    L = K.layers
    inputs = K.Input(IMAGE)
    a, b = (L.BatchNormalization()(L.Conv2D(4, 3, **BIAS)(inputs)) for _ in range(2))
    joined = L.Lambda(lambda pair: tf.concat([pair[0], tf.nn.relu(pair[1])], -1))([a, b])
    halves = L.Lambda(lambda x: tf.split(x, 2, axis=-1))(joined)
    return K.Model(inputs, [L.BatchNormalization()(half) for half in halves])


@zoo.entry("functional", "bn", "ops")
def operators_on_tensors(K: ModuleType) -> Any:
    L = K.layers
    inputs = K.Input(IMAGE)
    x = L.Conv2D(4, 3, **SAME)(inputs / 2 - 0.5)
    x = L.BatchNormalization()(x * 2 + 1)
    y = L.BatchNormalization()(1 - L.Conv2D(4, 3, **SAME)(inputs))
    x = -x + abs(y) ** 2
    return K.Model(inputs, classify(K, x[:, 1:, :-1] + x[:, :-1, 1:] * y[:, 1:, 1:]))


@zoo.entry("functional", "bn", "ops")
def index_by_operator(K: ModuleType) -> Any:
    """Slices between conv and BN: rows only, then channels."""
    L = K.layers
    inputs = K.Input(IMAGE)
    x = L.BatchNormalization()(L.Conv2D(4, 3, **BIAS)(inputs)[:, 1:-1])
    x = L.BatchNormalization()(L.Conv2D(4, 3, **BIAS)(x)[..., 1:3])
    return K.Model(inputs, L.BatchNormalization()(L.Dense(4, **BIAS)(x)[:, 0, 0]))


@zoo.entry("functional", "bn", "ops", only=TF_KERAS)
def tf_functions(K: ModuleType) -> Any:
    import tensorflow as tf

    L = K.layers
    inputs = K.Input(IMAGE)
    x = tf.nn.relu(L.BatchNormalization()(L.Conv2D(4, 3, **SAME)(inputs)))
    y = L.BatchNormalization()(tf.nn.bias_add(L.Conv2D(4, 3, **SAME)(x), [0.1, 0.2, 0.3, 0.4]))
    x = tf.concat([x, y], axis=-1)
    x = tf.transpose(x, [0, 3, 1, 2])
    x = tf.reduce_mean(x, axis=[2, 3]) + tf.math.reduce_std(x, [2, 3])
    return K.Model(inputs, L.BatchNormalization()(tf.cast(x, tf.float32)))


@zoo.entry("functional", "bn", "ops", only=TF_KERAS)
def tf_function_of_a_shape(K: ModuleType) -> Any:
    """A tensor of sizes feeds another call by position and inside a list."""
    import tensorflow as tf

    L = K.layers
    inputs = K.Input(IMAGE)
    x = L.BatchNormalization()(L.Conv2D(4, 3, **SAME)(inputs))
    sizes = tf.shape(x)
    x = tf.reshape(x, [sizes[0], sizes[1] * sizes[2], 4])
    return K.Model(inputs, L.BatchNormalization()(L.Dense(3, **BIAS)(x)))


@zoo.entry("functional", "bn", "ops", only=TF_KERAS)
def tf_function_with_several_results(K: ModuleType) -> Any:
    import tensorflow as tf

    L = K.layers
    inputs = K.Input(IMAGE)
    x = L.Conv2D(6, 3, **SAME)(inputs)
    a, _, c = tf.split(x, 3, axis=-1)
    mean, variance = tf.nn.moments(c, axes=[1, 2], keepdims=True)
    return K.Model(inputs, L.BatchNormalization()(tf.stack([a, c - mean, a * variance], axis=-1)))


@zoo.entry("functional", "bn", "ops", only=TF_KERAS)
def tf_normalizes_by_hand(K: ModuleType) -> Any:
    """Batch statistics without a BN layer for them: no value-only repair exists."""
    import tensorflow as tf

    L = K.layers
    inputs = K.Input(IMAGE)
    x = L.BatchNormalization()(L.Conv2D(4, 3, **SAME)(inputs))
    return K.Model(inputs, (x - tf.reduce_mean(x, axis=0)) / 2.0)


@zoo.entry("functional", "bn", "ops", only=KERAS3)
def keras_ops(K: ModuleType) -> Any:
    L, ops = K.layers, K.ops
    inputs = K.Input(IMAGE)
    x = ops.relu(L.BatchNormalization()(L.Conv2D(4, 3, **SAME)(inputs)))
    y = L.BatchNormalization()(ops.add(L.Conv2D(4, 3, **SAME)(x), 0.25))
    x = ops.concatenate([x, y], axis=-1)
    x = ops.transpose(x, (0, 3, 1, 2))
    x = ops.mean(x, axis=(2, 3)) + ops.std(x, (2, 3))
    return K.Model(inputs, L.BatchNormalization()(ops.cast(x, "float32")))


@zoo.entry("functional", "bn", "ops", only=KERAS3)
def keras_ops_with_several_results(K: ModuleType) -> Any:
    L, ops = K.layers, K.ops
    inputs = K.Input(IMAGE)
    x = L.Conv2D(6, 3, **SAME)(inputs)
    a, _, c = ops.split(x, 3, axis=-1)
    mean, variance = ops.moments(c, axes=[1, 2], keepdims=True)
    return K.Model(inputs, L.BatchNormalization()(ops.stack([a, c - mean, a * variance], -1)))


@zoo.entry("functional", "bn", "ops", only=KERAS3)
def keras_ops_normalize_by_hand(K: ModuleType) -> Any:
    """Batch statistics without a BN layer for them: no value-only repair exists."""
    L, ops = K.layers, K.ops
    inputs = K.Input(IMAGE)
    x = L.BatchNormalization()(L.Conv2D(4, 3, **SAME)(inputs))
    return K.Model(inputs, (x - ops.mean(x, axis=0)) / 2.0)


@zoo.entry("functional", "bn", "ops", only=KERAS3)
def keras_ops_conv(K: ModuleType) -> Any:
    """A convolution with a constant kernel, and matmul: linear, but no layer with weights."""
    import numpy as np

    L, ops = K.layers, K.ops
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype("float32")
    inputs = K.Input(IMAGE)
    x = L.BatchNormalization()(ops.conv(inputs, kernel, padding="same"))
    x = L.BatchNormalization()(ops.matmul(x, np.eye(4, dtype="float32")[::-1]))
    return K.Model(inputs, x)


@zoo.entry("functional", "bn", "ops")
def no_layer_but_bn(K: ModuleType) -> Any:
    inputs = K.Input(SEQUENCE)
    return K.Model(inputs, K.layers.BatchNormalization()(inputs * 3.0) - 1.0)
