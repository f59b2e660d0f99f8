"""The bare functions that a model of either Kerases is written with, under the same names."""

from types import ModuleType
from typing import Any

from .entry import is_keras3, tensorflow


class _OfTensorFlow:
    """The functions that a user of tf_keras calls, by the names that Keras 3 has for them."""

    def __init__(self) -> None:
        tf = tensorflow()
        self.concatenate, self.reshape, self.transpose = tf.concat, tf.reshape, tf.transpose
        self.pad, self.maximum, self.expand_dims = tf.pad, tf.maximum, tf.expand_dims
        self.squeeze, self.relu, self.stop_gradient = tf.squeeze, tf.nn.relu, tf.stop_gradient
        self.split, self.mean, self.max = tf.split, tf.reduce_mean, tf.reduce_max
        self.cast, self.subtract, self.matmul = tf.cast, tf.subtract, tf.matmul
        self.abs, self.sqrt, self.square = tf.abs, tf.sqrt, tf.square
        self.sum, self.std, self.softmax = tf.reduce_sum, tf.math.reduce_std, tf.nn.softmax
        self.leaky_relu = tf.nn.leaky_relu


def functions(K: ModuleType) -> Any:
    """Functions on tensors of `K`."""
    return K.ops if is_keras3(K) else _OfTensorFlow()
