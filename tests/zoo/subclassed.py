"""The user's own Model classes: without a graph, and with one."""

from types import ModuleType
from typing import Any

import numpy as np

from .common import BIAS, IMAGE, SAME, chain, classify, conv_bn_relu
from .entry import Collection, custom

zoo = Collection()


def _images(rows: int, rng: np.random.Generator) -> Any:
    return rng.standard_normal((rows, *IMAGE)).astype("float32")


def _two_images(rows: int, rng: np.random.Generator) -> Any:
    return {"left": _images(rows, rng), "right": _images(rows, rng)}


def _built(model: Any, sample: Any = _images) -> Any:
    model(sample(1, np.random.default_rng(0)))
    return model


@custom
def Stack(K: ModuleType) -> Any:
    class Stack(K.Model):
        """Layers in a list and in dicts, one of them nested."""

        def __init__(self, depth: int = 2, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            L = K.layers
            self.depth = depth
            self.convs = [L.Conv2D(4, 3, **SAME) for _ in range(depth)]
            self.norms = [L.BatchNormalization() for _ in range(depth)]
            self.head = {
                "pool": L.GlobalAveragePooling2D(),
                "last": {"dense": L.Dense(3, **BIAS), "norm": L.BatchNormalization()},
            }

        def call(self, inputs: Any, training: bool | None = None) -> Any:
            x = inputs
            for conv, norm in zip(self.convs, self.norms, strict=True):
                x = norm(conv(x), training=training)
                x = (abs(x) + x) / 2
            last = self.head["last"]
            return last["norm"](last["dense"](self.head["pool"](x)), training=training)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "depth": self.depth}

    return Stack


@custom
def Siamese(K: ModuleType) -> Any:
    class Siamese(K.Model):
        """Dict in, dict out; a Functional encoder with a BN, called twice."""

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            L = K.layers
            self.encoder = chain(K, IMAGE, L.Conv2D(4, 3, **BIAS), L.BatchNormalization())
            self.pool = L.GlobalAveragePooling2D()

        def call(self, inputs: Any, training: bool | None = None) -> Any:
            left, right = (
                self.pool(self.encoder(inputs[side], training=training))
                for side in ("left", "right")
            )
            return {"difference": left - right, "left": left}

    return Siamese


@custom
def ConvBnModel(K: ModuleType) -> Any:
    class ConvBnModel(K.Model):
        """A block written as a Model, as many code bases have them."""

        def __init__(self, filters: int = 4, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.filters = filters
            self.conv = K.layers.Conv2D(filters, 3, **SAME)
            self.norm = K.layers.BatchNormalization()

        def build(self, input_shape: Any) -> None:
            self.conv.build(input_shape)
            self.norm.build((*input_shape[:-1], self.filters))
            self.built = True

        def call(self, inputs: Any, training: bool | None = None) -> Any:
            return self.norm(self.conv(inputs), training=training)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return (*input_shape[:-1], self.filters)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "filters": self.filters}

    return ConvBnModel


@custom
def Classifier(K: ModuleType) -> Any:
    class Classifier(K.Model):
        """Functional inside, but made as `Classifier(filters=4)`."""

        def __init__(self, filters: int = 4, **kwargs: Any) -> None:
            inputs = K.Input(IMAGE)
            outputs = classify(K, conv_bn_relu(K, conv_bn_relu(K, inputs, filters), filters))
            super().__init__(inputs=inputs, outputs=outputs, **kwargs)
            self.filters = filters
            self.steps_seen = 0

        def train_step(self, *args: Any) -> Any:
            self.steps_seen += 1
            return super().train_step(*args)

        def get_config(self) -> dict[str, Any]:
            return {"name": self.name, "filters": self.filters}

        @classmethod
        def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
            return cls(**config)

    return Classifier


@custom
def CountingModel(K: ModuleType) -> Any:
    class CountingModel(K.Model):
        """Made like a Functional model, `CountingModel(inputs, outputs)`, with its own step."""

        def train_step(self, *args: Any) -> Any:
            return {**super().train_step(*args), "extra": 1.0}

    return CountingModel


@zoo.entry("subclassed", "bn", "custom", sample=_images)
def subclassed_lists_and_dicts(K: ModuleType) -> Any:
    return _built(Stack(K)(depth=2))


@zoo.entry("subclassed", "bn", "custom", "nested", "shared", "multi_io", sample=_two_images)
def subclassed_with_functional_part(K: ModuleType) -> Any:
    return _built(Siamese(K)(), _two_images)


@zoo.entry("functional", "bn", "opaque_bn", "custom", "nested")
def subclassed_block_in_functional(K: ModuleType) -> Any:
    L, block = K.layers, ConvBnModel(K)
    x = inputs = K.Input(IMAGE)
    x = L.ReLU()(block(4)(x))
    x = L.BatchNormalization()(L.Conv2D(4, 3, **BIAS)(x))
    return K.Model(inputs, classify(K, x))


@zoo.entry("sequential", "bn", "opaque_bn", "custom", "nested")
def subclassed_block_in_sequential(K: ModuleType) -> Any:
    return K.Sequential([K.Input(IMAGE), ConvBnModel(K)(4), K.layers.ReLU(), ConvBnModel(K)(3)])


@zoo.entry("functional", "functional_subclass", "bn", "custom", "compiled")
def functional_subclass_own_init(K: ModuleType) -> Any:
    model = Classifier(K)(filters=5, name="classifier")
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


@zoo.entry("functional", "functional_subclass", "bn", "custom", "compiled")
def functional_subclass_same_init(K: ModuleType) -> Any:
    inputs = K.Input(IMAGE)
    model = CountingModel(K)(inputs, classify(K, conv_bn_relu(K, inputs, 4)))
    model.compile("sgd", "mse")
    return model


@zoo.entry("functional", "functional_subclass", "bn", "custom", "nested")
def functional_subclass_nested(K: ModuleType) -> Any:
    """The user's Functional class as a layer of a plain Functional model."""
    inputs = K.Input(IMAGE)
    x = K.layers.Conv2D(3, 3, **SAME)(inputs)
    return K.Model(inputs, Classifier(K)(filters=3)(K.layers.BatchNormalization()(x)))
