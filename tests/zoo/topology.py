"""Graphs that branch, join, and hand out tensors in the middle."""

from types import ModuleType
from typing import Any

from .common import BIAS, IMAGE, SAME, apply, classify, conv_bn_relu
from .entry import Collection

zoo = Collection()


@zoo.entry("functional", "bn")
def residual(K: ModuleType) -> Any:
    L = K.layers
    inputs = K.Input(IMAGE)
    x = conv_bn_relu(K, inputs, 4)
    y = L.BatchNormalization()(L.Conv2D(4, 3, **SAME)(x))
    x = L.ReLU()(L.Add()([x, y]))
    y = L.BatchNormalization()(L.Conv2D(6, 3, strides=2, **SAME)(x))
    skip = L.BatchNormalization()(L.Conv2D(6, 1, strides=2, **SAME)(x))
    return K.Model(inputs, classify(K, L.ReLU()(L.Add()([y, skip]))))


@zoo.entry("functional", "bn")
def pre_activation_residual(K: ModuleType) -> Any:
    """BN before the conv, fed by an Add that others read too: nothing to fold backwards."""
    L = K.layers
    inputs = K.Input(IMAGE)
    x = L.Conv2D(4, 3, **SAME)(inputs)
    for _ in range(2):
        y = apply(x, L.BatchNormalization(), L.ReLU(), L.Conv2D(4, 3, **SAME))
        x = L.Add()([x, y])
    return K.Model(inputs, classify(K, L.ReLU()(L.BatchNormalization()(x))))


@zoo.entry("functional", "bn")
def dense_concatenation(K: ModuleType) -> Any:
    """As in DenseNet: each BN normalises the concatenation of all earlier convs."""
    L = K.layers
    inputs = K.Input(IMAGE)
    x = L.Conv2D(4, 3, **SAME)(inputs)
    for _ in range(3):
        y = apply(x, L.BatchNormalization(), L.ReLU(), L.Conv2D(3, 3, padding="same"))
        x = L.Concatenate()([x, y])
    return K.Model(inputs, classify(K, L.BatchNormalization()(x)))


@zoo.entry("functional", "bn")
def bn_of_a_join(K: ModuleType) -> Any:
    """One BN over an Add, over a Concatenate on the channels, over one on another axis."""
    L = K.layers
    inputs = K.Input(IMAGE)
    a, b = (L.Conv2D(4, 3, **SAME)(inputs) for _ in range(2))
    x = L.ReLU()(L.BatchNormalization()(L.Add()([a, b])))
    a, b = (L.Conv2D(filters, 3, **SAME)(x) for filters in (2, 3))
    x = L.ReLU()(L.BatchNormalization()(L.Concatenate()([a, b])))
    a, b = (L.Conv2D(4, 3, **SAME)(x) for _ in range(2))
    return K.Model(inputs, L.BatchNormalization()(L.Concatenate(axis=1)([a, b])))


@zoo.entry("functional", "bn")
def inception(K: ModuleType) -> Any:
    L = K.layers
    inputs = K.Input(IMAGE)
    branches = [
        conv_bn_relu(K, inputs, 4, 1),
        conv_bn_relu(K, conv_bn_relu(K, inputs, 3, 1), 4, 3),
        conv_bn_relu(K, L.AveragePooling2D(3, strides=1, padding="same")(inputs), 4, 1),
    ]
    joined = [L.Average()(branches), L.Maximum()(branches), L.Multiply()(branches[:2])]
    return K.Model(inputs, classify(K, L.Concatenate()(joined)))


@zoo.entry("functional", "bn")
def squeeze_excite(K: ModuleType) -> Any:
    """Multiply by a gate of shape (batch, 1, 1, channels): broadcasting in a merge."""
    L = K.layers
    inputs = K.Input(IMAGE)
    x = L.BatchNormalization()(L.Conv2D(4, 3, **SAME)(inputs))
    gate = apply(
        x,
        L.GlobalAveragePooling2D(keepdims=True),
        L.Conv2D(2, 1, activation="relu", **BIAS),
        L.Conv2D(4, 1, activation="sigmoid", **BIAS),
    )
    return K.Model(inputs, classify(K, L.Multiply()([x, gate])))


@zoo.entry("functional", "bn", "multi_io")
def conv_is_output(K: ModuleType) -> Any:
    L = K.layers
    inputs = K.Input(IMAGE)
    conv = L.Conv2D(4, 3, **BIAS)(inputs)
    x = L.ReLU()(L.BatchNormalization()(conv))
    return K.Model(inputs, [conv, x])


@zoo.entry("functional", "bn")
def conv_with_two_consumers(K: ModuleType) -> Any:
    L = K.layers
    inputs = K.Input(IMAGE)
    conv = L.Conv2D(4, 3, **SAME)(inputs)
    normed = L.BatchNormalization()(conv)
    return K.Model(inputs, L.Add()([normed, L.Activation("tanh")(conv)]))


@zoo.entry("functional", "bn")
def conv_with_two_batch_norms(K: ModuleType) -> Any:
    """Two BN on one conv: folding either would change what the other reads."""
    L = K.layers
    inputs = K.Input(IMAGE)
    conv = L.Conv2D(4, 3, **SAME)(inputs)
    return K.Model(inputs, L.Concatenate()([L.BatchNormalization()(conv) for _ in range(2)]))


@zoo.entry("functional", "bn", "multi_io")
def output_used_inside(K: ModuleType) -> Any:
    L = K.layers
    inputs = K.Input(IMAGE)
    early = L.BatchNormalization()(L.Conv2D(4, 3, **SAME)(inputs))
    late = L.BatchNormalization()(L.Conv2D(5, 3, **SAME)(L.ReLU()(early)))
    return K.Model(inputs, [late, early])


@zoo.entry("functional", "bn", "multi_io")
def output_is_input(K: ModuleType) -> Any:
    L = K.layers
    inputs = K.Input(IMAGE)
    x = L.BatchNormalization()(L.Conv2D(4, 3, **BIAS)(inputs))
    return K.Model(inputs, [inputs, x])


@zoo.entry("functional", "bn", "multi_io")
def output_given_twice(K: ModuleType) -> Any:
    L = K.layers
    inputs = K.Input(IMAGE)
    x = L.BatchNormalization()(L.Conv2D(4, 3, **BIAS)(inputs))
    return K.Model(inputs, [x, x])


@zoo.entry("functional", "bn", "multi_io")
def feature_extractor(K: ModuleType) -> Any:
    """A view of a larger model: its layers also have calls that are none of this model's."""
    L = K.layers
    inputs = K.Input(IMAGE)
    low = L.BatchNormalization(name="low")(L.Conv2D(4, 3, **BIAS)(inputs))
    high = L.BatchNormalization(name="high")(L.Conv2D(5, 3, **BIAS)(L.ReLU()(low)))
    whole = K.Model(inputs, classify(K, high))
    return K.Model(whole.input, [whole.get_layer(name).output for name in ("low", "high")])


@zoo.entry("functional", "bn")
def second_call_of_its_layers(K: ModuleType) -> Any:
    """Every layer was called once before, on tensors that are no part of the model."""
    L = K.layers
    layers = [L.Conv2D(4, 3, **BIAS), L.BatchNormalization(), L.ReLU(), L.Flatten()]
    apply(K.Input(IMAGE), *layers)
    inputs = K.Input(IMAGE)
    return K.Model(inputs, apply(inputs, *layers))


@zoo.entry("functional", "bn")
def starts_in_the_middle(K: ModuleType) -> Any:
    """A model whose input is the output of a layer of another."""
    L = K.layers
    middle = L.ReLU()(L.Conv2D(4, 3, **SAME)(K.Input(IMAGE)))
    return K.Model(middle, classify(K, L.BatchNormalization()(L.Conv2D(5, 3, **SAME)(middle))))
