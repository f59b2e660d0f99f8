"""The layers of the graphs in either Keras."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Weights = dict[str, np.ndarray]


class Inexpressible(Exception):
    """A framework has no such layer."""


class KerasLayers:
    """Layers by the names that `graphs.py` uses; those with weights are kept by name."""

    def __init__(self, K: Any) -> None:
        self.K = K
        self.layers = K.layers
        self.weighted: dict[str, Any] = {}

    def input(self, shape: Sequence[int]) -> Any:
        return self.K.Input(tuple(shape))

    def conv(
        self,
        filters: int,
        size: int = 3,
        *,
        strides: int = 1,
        padding: str = "same",
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        act: str = "linear",
        rank: int = 2,
    ) -> Any:
        kind = getattr(self.layers, f"Conv{rank}D")
        options = {"dilation_rate": dilation, "groups": groups, "activation": act}
        return self._named("conv", kind, filters, size, strides, padding, use_bias=bias, **options)

    def depthwise(
        self,
        size: int = 3,
        *,
        strides: int = 1,
        padding: str = "same",
        multiplier: int = 1,
        bias: bool = True,
        rank: int = 2,
    ) -> Any:
        kind = getattr(self.layers, f"DepthwiseConv{rank}D")
        options = {"depth_multiplier": multiplier, "use_bias": bias}
        return self._named("depthwise", kind, size, strides, padding, **options)

    def separable(self, filters: int, size: int = 3, *, bias: bool = True, rank: int = 2) -> Any:
        kind = getattr(self.layers, f"SeparableConv{rank}D")
        return self._named("separable", kind, filters, size, padding="same", use_bias=bias)

    def transposed(
        self, filters: int, size: int, strides: int, *, bias: bool = True, rank: int = 2
    ) -> Any:
        kind = getattr(self.layers, f"Conv{rank}DTranspose")
        return self._named("transposed", kind, filters, size, strides, "same", use_bias=bias)

    def dense(self, units: int, *, bias: bool = True, act: str = "linear") -> Any:
        return self._named("dense", self.layers.Dense, units, act, use_bias=bias)

    def einsum(self, equation: str, shape: tuple[int, ...], bias_axes: str) -> Any:
        return self._named("einsum", self.layers.EinsumDense, equation, shape, bias_axes=bias_axes)

    def bn(
        self,
        *,
        scale: bool = True,
        center: bool = True,
        epsilon: float = 1e-3,
        trainable: bool = True,
        call_training: Any = None,
    ) -> Any:
        options = {"scale": scale, "center": center, "epsilon": epsilon, "trainable": trainable}
        layer = self._named("bn", self.layers.BatchNormalization, **options)
        if call_training is None:
            return layer
        return lambda x: layer(x, training=call_training)

    def doubling_bn(self) -> Any:
        return self._named("bn", doubling(self.K))

    def act(self, name: str) -> Any:
        # ReLU's own layer, as networks have it; it knows the 6 too.
        if name in ("relu", "relu6"):
            return self.layers.ReLU(6.0 if name == "relu6" else None)
        return self.layers.Activation(name)

    def add(self) -> Any:
        return self.layers.Add()

    def multiply(self) -> Any:
        return self.layers.Multiply()

    def concat(self) -> Any:
        return self.layers.Concatenate()

    def dropout(self) -> Any:
        return self.layers.Dropout(0.3)

    def average_pool(self, size: int = 2) -> Any:
        return self.layers.AveragePooling2D(size)

    def max_pool(self, size: int = 2, strides: int = 2) -> Any:
        return self.layers.MaxPooling2D(size, strides)

    def global_pool(self) -> Any:
        return self.layers.GlobalAveragePooling2D()

    def zero_pad(self, width: int = 1) -> Any:
        return self.layers.ZeroPadding2D(width)

    def crop(self) -> Any:
        return self.layers.Cropping2D(1)

    def upsample(self, size: int = 2) -> Any:
        return self.layers.UpSampling2D(size)

    def swap(self) -> Any:
        return self.layers.Permute((2, 1, 3))

    def flatten(self) -> Any:
        return self.layers.Flatten()

    def model(self, shape: Sequence[int], build: Callable[[Any], Any]) -> Any:
        inputs = self.input(shape)
        return self.K.Model(inputs, build(inputs))

    def _named(self, kind: str, layer: Any, *arguments: Any, **options: Any) -> Any:
        name = f"{kind}_{sum(key.startswith(kind + '_') for key in self.weighted)}"
        self.weighted[name] = layer(*arguments, name=name, **options)
        return self.weighted[name]


def doubling(K: Any) -> Any:
    """A subclass that computes something else: not to be folded as if it were its base."""

    class DoublingBatchNormalization(K.layers.BatchNormalization):
        def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
            return 2.0 * super().call(inputs, training=training)

    return DoublingBatchNormalization


def build(K: Any, graph: Any) -> tuple[Any, dict[str, Any]]:
    """The model of `graph`, and its layers with weights by name."""
    L = KerasLayers(K)
    inputs, outputs = graph.build(L)
    model = K.Model(
        inputs if len(inputs) > 1 else inputs[0], outputs if len(outputs) > 1 else outputs[0]
    )
    return model, L.weighted


def model_of(K: Any, graph: Any, weights: Weights) -> Any:
    """The model of `graph` with `weights`."""
    model, layers = build(K, graph)
    for name, layer in layers.items():
        layer.set_weights([weights[f"{name}/{i}"] for i in range(len(layer.get_weights()))])
    return model


def draw(layers: dict[str, Any], rng: np.random.Generator) -> Weights:
    """Random weights of a size that keeps values near 1, and statistics that are not 0 and 1."""
    drawn: Weights = {}
    for name, layer in layers.items():
        for i, array in enumerate(layer.get_weights()):
            value = rng.normal(size=array.shape) * _deviation(array.shape)
            if name.startswith("bn_"):
                value = _statistics(layer.weights[i].name, array.shape, rng)
            drawn[f"{name}/{i}"] = value.astype("float32")
    return drawn


def _deviation(shape: tuple[int, ...]) -> float:
    return float(1 / np.sqrt(max(np.prod(shape[:-1]), 1))) if len(shape) > 1 else 0.5


def _statistics(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    if "variance" in name:
        return rng.uniform(0.5, 2.0, shape)
    if "gamma" in name:
        # Of either sign: a maximum behind it is no longer one.
        return rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)
    return rng.normal(size=shape)


def run(model: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """What `model` answers in inference, as a list of arrays."""
    found = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    return [np.asarray(x) for x in (found if isinstance(found, (list, tuple)) else [found])]


def norms(model: Any) -> int:
    """The number of BNs in `model`, at any depth."""
    layers = getattr(model, "layers", None)
    if layers is not None:
        return sum(norms(layer) for layer in layers)
    return int(any(kind.__name__ == "BatchNormalization" for kind in type(model).__mro__))
