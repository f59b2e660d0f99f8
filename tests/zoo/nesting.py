"""Models inside models, Sequential of each kind, layers called more than once."""

from types import ModuleType
from typing import Any

import numpy as np

from .common import BIAS, IMAGE, SAME, apply, chain, classify, conv_bn_relu
from .entry import TF_KERAS, Collection

zoo = Collection()


def _encoder(K: ModuleType, name: str, filters: int = 4) -> Any:
    """Conv-BN with the same layer names each time, as nested models have them in practice."""
    L = K.layers
    inputs = K.Input(IMAGE, name="image")
    x = L.BatchNormalization(name="bn")(L.Conv2D(filters, 3, name="conv", **SAME)(inputs))
    return K.Model(inputs, L.ReLU(name="relu")(x), name=name)


@zoo.entry("sequential", "bn")
def sequential(K: ModuleType) -> Any:
    L = K.layers
    return K.Sequential(
        [
            K.Input(IMAGE),
            L.Conv2D(4, 3, **BIAS),
            L.BatchNormalization(),
            L.ReLU(),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dense(5, **BIAS),
            L.BatchNormalization(),
            L.Dense(3, activation="softmax", **BIAS),
        ],
        name="sequential_model",
    )


@zoo.entry("sequential", "bn")
def sequential_deferred(K: ModuleType) -> Any:
    """Without an input shape: it is built by its first call."""
    L = K.layers
    model = K.Sequential([L.Conv2D(4, 3, **BIAS), L.BatchNormalization(), L.ReLU()])
    model.add(L.GlobalAveragePooling2D())
    model.add(L.Dense(3, **BIAS))
    model(np.zeros((1, *IMAGE), "float32"))
    return model


@zoo.entry("sequential", "bn", only=TF_KERAS)
def sequential_input_shape(K: ModuleType) -> Any:
    """The old form: the first layer says its input shape, and the model ends in a BN."""
    L = K.layers
    return K.Sequential([L.Conv2D(4, 3, input_shape=IMAGE, **BIAS), L.BatchNormalization()])


@zoo.entry("sequential", "bn", "nested")
def sequential_of_models(K: ModuleType) -> Any:
    L = K.layers
    body = K.Sequential([K.Input((8, 8, 4)), L.Conv2D(5, 3, **BIAS), L.BatchNormalization()])
    head = [L.GlobalAveragePooling2D(), L.Dense(3, activation="softmax")]
    return K.Sequential([K.Input(IMAGE), _encoder(K, "encoder"), body, *head])


@zoo.entry("functional", "bn", "nested")
def three_deep(K: ModuleType) -> Any:
    """Sequential in Functional in Functional; the name `bn` appears at each depth."""
    L = K.layers
    inner = K.Sequential(
        [K.Input((8, 8, 4)), L.Conv2D(4, 3, name="conv", **SAME), L.BatchNormalization(name="bn")],
        name="inner",
    )
    inputs = K.Input(IMAGE)
    x = L.BatchNormalization(name="bn")(L.Conv2D(4, 3, name="conv", **SAME)(inputs))
    middle = K.Model(inputs, L.ReLU()(inner(x)), name="middle")
    inputs = K.Input(IMAGE)
    x = L.BatchNormalization(name="bn")(L.Conv2D(5, 3, name="conv", **SAME)(middle(inputs)))
    return K.Model(inputs, classify(K, x), name="outer")


@zoo.entry("functional", "bn", "nested")
def bn_across_the_border(K: ModuleType) -> Any:
    """The conv ends one nested model; its BN starts the next, or follows outside."""
    L = K.layers
    ends = chain(K, IMAGE, L.ReLU(), L.Conv2D(4, 3, **SAME))
    starts = chain(K, (8, 8, 4), L.BatchNormalization(), L.ReLU(), L.Conv2D(4, 3, **SAME))
    inputs = K.Input(IMAGE)
    return K.Model(inputs, L.ReLU()(L.BatchNormalization()(starts(ends(inputs)))))


@zoo.entry("functional", "bn", "nested", "multi_io")
def nested_with_dicts(K: ModuleType) -> Any:
    """A nested model that takes and gives dicts, one of whose outputs is not used."""
    L = K.layers
    inputs = {"left": K.Input((5,), name="left"), "right": K.Input((5,), name="right")}
    left, right = (L.BatchNormalization()(L.Dense(4, **BIAS)(x)) for x in inputs.values())
    inner = K.Model(inputs, {"sum": L.Add()([left, right]), "left": left, "unused": right})
    a, b = K.Input((5,), name="a"), K.Input((5,), name="b")
    out = inner({"left": b, "right": a})
    return K.Model([a, b], L.BatchNormalization()(L.Concatenate()([out["sum"], out["left"]])))


@zoo.entry("functional", "bn", "nested", "shared", "multi_io")
def nested_called_twice(K: ModuleType) -> Any:
    L = K.layers
    encoder = _encoder(K, "encoder")
    a, b = K.Input(IMAGE, name="a"), K.Input(IMAGE, name="b")
    return K.Model([a, b], classify(K, L.Subtract()([encoder(a), encoder(b)])))


@zoo.entry("functional", "bn", "nested", "shared", "multi_io")
def nested_fed_by_itself(K: ModuleType) -> Any:
    """The second call reads the first: the BN of the model cannot wait for both."""
    L = K.layers
    inputs = K.Input((8, 8, 4))
    x = L.BatchNormalization(name="bn")(L.Conv2D(4, 3, name="conv", **SAME)(inputs))
    step = K.Model(inputs, L.Activation("tanh")(x), name="step")
    outer = K.Input((8, 8, 4))
    once = step(outer)
    return K.Model(outer, [once, step(once)])


@zoo.entry("functional", "bn", "shared")
def shared_conv_and_bn(K: ModuleType) -> Any:
    """Conv and BN both called twice, with each other: the pair could be folded once."""
    L = K.layers
    conv, norm = L.Conv2D(4, 3, **SAME), L.BatchNormalization()
    inputs = K.Input(IMAGE)
    flipped = L.Permute((2, 1, 3))(inputs)
    return K.Model(inputs, L.Concatenate()([norm(conv(inputs)), norm(conv(flipped))]))


@zoo.entry("functional", "bn", "shared")
def shared_conv(K: ModuleType) -> Any:
    """One conv, each call followed by a BN of its own."""
    L = K.layers
    conv = L.Conv2D(4, 3, **SAME)
    inputs = K.Input(IMAGE)
    calls = [conv(inputs), conv(L.Permute((2, 1, 3))(inputs))]
    return K.Model(inputs, L.Add()([L.BatchNormalization()(call) for call in calls]))


@zoo.entry("functional", "bn", "shared")
def shared_bn(K: ModuleType) -> Any:
    """One BN over two convs, and one that follows itself."""
    L = K.layers
    norm, again = L.BatchNormalization(), L.BatchNormalization()
    inputs = K.Input(IMAGE)
    x = L.Add()([norm(L.Conv2D(4, 3, **SAME)(inputs)) for _ in range(2)])
    return K.Model(inputs, again(L.ReLU()(again(x))))


@zoo.entry("functional", "bn", "shared")
def residual_shared_conv(K: ModuleType) -> Any:
    """A weight-tied residual block, unrolled twice with its own BN each time."""
    L = K.layers
    inputs = K.Input(IMAGE)
    x = conv_bn_relu(K, inputs, 4)
    conv = L.Conv2D(4, 3, **SAME)
    for _ in range(2):
        x = L.Add()([x, apply(x, conv, L.BatchNormalization(), L.ReLU())])
    return K.Model(inputs, classify(K, x))


@zoo.entry("functional", "bn", "nested", "shared", "multi_io")
def shared_across_models(K: ModuleType) -> Any:
    """One Conv-BN pair is a layer of two nested models."""
    L = K.layers
    stem, norm = L.Conv2D(4, 3, name="stem", **SAME), L.BatchNormalization(name="stem_bn")

    def tower(name: str, units: int) -> Any:
        inputs = K.Input(IMAGE)
        return K.Model(inputs, classify(K, L.ReLU()(norm(stem(inputs))), units), name=name)

    a, b = K.Input(IMAGE, name="a"), K.Input(IMAGE, name="b")
    return K.Model([a, b], [tower("left", 2)(a), tower("right", 3)(b)])


@zoo.entry("functional", "bn", "nested", "shared")
def shared_inside_and_outside(K: ModuleType) -> Any:
    """A BN of the nested model is also a layer of the model around it."""
    L = K.layers
    encoder = _encoder(K, "encoder")
    inputs = K.Input(IMAGE)
    x = L.Conv2D(4, 3, **SAME)(encoder(inputs))
    return K.Model(inputs, classify(K, encoder.get_layer("bn")(x)))
