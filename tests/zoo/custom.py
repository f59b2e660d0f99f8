"""Classes and functions of the user's own, none registered with Keras unless said so.

Classes are made by a function of `K`, since each Keras wants its own base; see `entry.custom`.
"""

from types import ModuleType
from typing import Any

from .common import BIAS, IMAGE, SAME, chain, classify
from .entry import KERAS3, Collection, custom, is_keras3

zoo = Collection()


@custom
def Gain(K: ModuleType) -> Any:
    class Gain(K.layers.Layer):
        """`gain * x` with one weight per channel: a plain custom layer."""

        def __init__(self, start: float = 1.0, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.start = start

        def build(self, input_shape: Any) -> None:
            start = K.initializers.Constant(self.start)
            self.gain = self.add_weight(name="gain", shape=input_shape[-1:], initializer=start)

        def call(self, inputs: Any) -> Any:
            return inputs * self.gain

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "start": self.start}

    return Gain


@custom
def squash(K: ModuleType) -> Any:
    def squash(x: Any) -> Any:
        return x / (1.0 + abs(x))

    return squash


@custom
def Ramp(K: ModuleType) -> Any:
    class Ramp(K.initializers.Initializer):
        """Weights that rise from `low` to 1."""

        def __init__(self, low: float = -1.0) -> None:
            self.low = low

        def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> Any:
            import numpy as np

            ramp = np.linspace(self.low, 1.0, int(np.prod(shape))).reshape(shape)
            if is_keras3(K):
                return K.ops.cast(ramp, dtype or "float32")
            return K.backend.cast(ramp, dtype or "float32")

        def get_config(self) -> dict[str, Any]:
            return {"low": self.low}

    return Ramp


@custom
def SumOfSquares(K: ModuleType) -> Any:
    class SumOfSquares(K.regularizers.Regularizer):
        def __init__(self, strength: float = 0.01) -> None:
            self.strength = strength

        def __call__(self, x: Any) -> Any:
            return self.strength * (K.ops.sum(x * x) if is_keras3(K) else K.backend.sum(x * x))

        def get_config(self) -> dict[str, Any]:
            return {"strength": self.strength}

    return SumOfSquares


@custom
def ConvBlock(K: ModuleType) -> Any:
    class ConvBlock(K.layers.Layer):
        """Conv, BN and ReLU in one layer, as in keras-hub: the graph shows none of these."""

        def __init__(self, filters: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.filters = filters
            self.conv = K.layers.Conv2D(filters, 3, name="conv", **SAME)
            self.norm = K.layers.BatchNormalization(name="bn")

        def build(self, input_shape: Any) -> None:
            self.conv.build(input_shape)
            self.norm.build((*input_shape[:-1], self.filters))
            super().build(input_shape)

        def call(self, inputs: Any, training: bool | None = None) -> Any:
            x = self.norm(self.conv(inputs), training=training)
            return (abs(x) + x) / 2  # ReLU, without asking which Keras this is

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "filters": self.filters}

    return ConvBlock


@custom
def HeadsAndTail(K: ModuleType) -> Any:
    class HeadsAndTail(K.layers.Layer):
        """Two outputs in a dict: the channels in two halves."""

        def call(self, inputs: Any) -> Any:
            half = inputs.shape[-1] // 2
            return {"tail": inputs[..., half:], "heads": inputs[..., :half]}

    return HeadsAndTail


@custom
def WithModel(K: ModuleType) -> Any:
    class WithModel(K.layers.Layer):
        """A layer that owns a Functional model with a BN."""

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            L = K.layers
            self.body = chain(K, IMAGE, L.Conv2D(3, 3, **SAME), L.BatchNormalization(), L.ReLU())

        def call(self, inputs: Any, training: bool | None = None) -> Any:
            return inputs + self.body(inputs, training=training)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

    return WithModel


@custom
def Residual(K: ModuleType) -> Any:
    class Residual(K.layers.Wrapper):
        """A wrapper around any layer, here a BN."""

        def call(self, inputs: Any, training: bool | None = None) -> Any:
            return inputs + self.layer(inputs, training=training)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

    return Residual


@zoo.entry("functional", "bn", "custom")
def custom_layer(K: ModuleType) -> Any:
    L, gain = K.layers, Gain(K)
    return chain(
        K, IMAGE, L.Conv2D(4, 3, **BIAS), gain(2.0), L.BatchNormalization(), gain(0.5), L.ReLU()
    )


@zoo.entry("functional", "bn")
def custom_layer_registered(K: ModuleType) -> Any:
    """Registered under a package: `class_name` in its file is `zoo>Halve`."""
    L = K.layers

    @K.saving.register_keras_serializable(package="zoo")
    class Halve(L.Layer):
        def call(self, inputs: Any) -> Any:
            return inputs * 0.5

    return chain(K, IMAGE, L.Conv2D(4, 3, **BIAS), Halve(), L.BatchNormalization())


@zoo.entry("functional", "bn", "custom")
def custom_activation(K: ModuleType) -> Any:
    """Unregistered, in a conv before a BN and in a layer of its own after it."""
    L, activation = K.layers, squash(K)
    return chain(
        K,
        IMAGE,
        L.Conv2D(4, 3, activation=activation, **BIAS),
        L.BatchNormalization(),
        L.Activation(activation),
    )


@zoo.entry("functional", "bn", "custom")
def custom_initializer_and_regularizer(K: ModuleType) -> Any:
    L, ramp, squares = K.layers, Ramp(K), SumOfSquares(K)
    return chain(
        K,
        IMAGE,
        L.Conv2D(4, 3, bias_initializer=ramp(-0.5), kernel_regularizer=squares(0.02)),
        L.BatchNormalization(gamma_initializer=ramp(0.5), beta_regularizer=squares()),
        L.ReLU(),
    )


@zoo.entry("functional", "bn", "opaque_bn", "custom")
def composite_layers(K: ModuleType) -> Any:
    L, block = K.layers, ConvBlock(K)
    x = inputs = K.Input(IMAGE)
    for filters in (4, 5):
        x = L.BatchNormalization()(block(filters)(x))
    return K.Model(inputs, classify(K, x))


@zoo.entry("functional", "bn", "opaque_bn", "custom", "shared")
def composite_layer_called_twice(K: ModuleType) -> Any:
    block = ConvBlock(K)(3)
    inputs = K.Input(IMAGE)
    return K.Model(inputs, classify(K, block(block(inputs))))


@zoo.entry("functional", "bn", "opaque_bn", "custom")
def layer_that_owns_a_model(K: ModuleType) -> Any:
    L = K.layers
    return chain(K, IMAGE, WithModel(K)(), L.Conv2D(4, 3, **BIAS), L.BatchNormalization())


@zoo.entry("functional", "bn", "opaque_bn", "custom")
def custom_wrapper_of_bn(K: ModuleType) -> Any:
    L = K.layers
    return chain(K, IMAGE, L.Conv2D(4, 3, **BIAS), Residual(K)(L.BatchNormalization()), L.ReLU())


@zoo.entry("functional", "bn", "custom", "multi_io")
def custom_layer_with_two_outputs(K: ModuleType) -> Any:
    L = K.layers
    inputs = K.Input(IMAGE)
    parts = HeadsAndTail(K)()(L.Conv2D(4, 3, **BIAS)(inputs))
    return K.Model(inputs, {name: L.BatchNormalization()(x) for name, x in parts.items()})


@zoo.entry("functional", "bn", only=KERAS3)
def spectral_normalization(K: ModuleType) -> Any:
    """A wrapper that rewrites its layer's kernel in training mode.

    tf_keras 2.21 has it, but builds it with an `InputSpec` of `tf.keras`, which is Keras 3, and
    raises.
    """
    L = K.layers
    return chain(
        K,
        IMAGE,
        L.SpectralNormalization(L.Conv2D(4, 3, **BIAS)),
        L.BatchNormalization(),
        L.ReLU(),
        L.Flatten(),
        L.SpectralNormalization(L.Dense(4, **BIAS)),
        L.BatchNormalization(),
    )
