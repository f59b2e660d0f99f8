"""Small networks that every framework can build, each written once.

A graph is a function of `L`, the layers of a framework (`in_keras.py`, `in_torch.py`), so that
Keras 2, Keras 3 and PyTorch build the same network, and one file of weights fits all. It must
run on any Python that an opponent needs, so it imports nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

IMAGE = (8, 8, 3)
SEQUENCE = (8, 5)
VOLUME = (4, 6, 6, 2)
VECTOR = (7,)


class Graph(NamedTuple):
    """A network: `build(L)` gives its inputs and outputs."""

    name: str
    family: str
    build: Callable[[Any], Any]


GRAPHS: dict[str, Graph] = {}

#: Keras 3 lets `training=False` of a model overrule what its graph says, Keras 2 does not.
UNLIKE = {"training_true_in_the_graph"}


def graph(family: str) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Lists the decorated function under its name."""

    def listed(build: Callable[[Any], Any]) -> Callable[[Any], Any]:
        GRAPHS[build.__name__] = Graph(build.__name__, family, build)
        return build

    return listed


def chains(family: str, shape: Sequence[int], **written: Callable[[Any], list[Any]]) -> None:
    """Lists networks that apply one layer after the other."""
    for name, layers in written.items():

        def build(L: Any, layers: Callable[[Any], list[Any]] = layers) -> Any:
            x = inputs = L.input(shape)
            return [inputs], [apply(x, *layers(L))]

        GRAPHS[name] = Graph(name, family, build)


def apply(x: Any, *layers: Any) -> Any:
    """`x` through each of `layers`."""
    for layer in layers:
        x = layer(x)
    return x


# --- a BN behind each kind of linear layer --------------------------------------------------------

chains(
    "linear layer",
    IMAGE,
    conv=lambda L: [L.conv(4), L.bn(), L.act("relu")],
    conv_without_bias=lambda L: [L.conv(4, bias=False), L.bn(), L.act("relu")],
    conv_strides=lambda L: [L.conv(4, strides=2), L.bn(), L.act("relu")],
    conv_valid_then_conv=lambda L: [
        *(L.conv(4, padding="valid"), L.bn(), L.act("relu")),
        *(L.conv(5, 1, bias=False), L.bn()),
    ],
    conv_dilated=lambda L: [L.conv(4, dilation=2), L.bn(), L.act("relu")],
    conv_grouped=lambda L: [L.conv(4), L.act("relu"), L.conv(6, groups=2), L.bn()],
    depthwise=lambda L: [L.depthwise(), L.bn(), L.act("relu"), L.conv(4, 1, bias=False), L.bn()],
    depthwise_multiplier=lambda L: [L.depthwise(multiplier=2), L.bn(), L.act("relu")],
    depthwise_strides=lambda L: [L.depthwise(strides=2, bias=False), L.bn(), L.act("relu")],
    separable=lambda L: [L.separable(4), L.bn(), L.act("relu")],
    separable_without_bias=lambda L: [L.separable(4, bias=False), L.bn(), L.act("relu")],
    transposed=lambda L: [L.transposed(4, 4, strides=2), L.bn(), L.act("relu")],
    transposed_without_bias=lambda L: [L.transposed(4, 2, 2, bias=False), L.bn(), L.act("relu")],
)
chains(
    "linear layer",
    SEQUENCE,
    conv1d=lambda L: [L.conv(4, rank=1), L.bn(), L.act("relu")],
    conv1d_causal=lambda L: [L.conv(4, padding="causal", rank=1), L.bn(), L.act("relu")],
    depthwise1d=lambda L: [L.depthwise(rank=1), L.bn(), L.act("relu")],
    separable1d=lambda L: [L.separable(4, rank=1), L.bn(), L.act("relu")],
    transposed1d=lambda L: [L.transposed(4, 4, strides=2, rank=1), L.bn(), L.act("relu")],
    dense_of_sequence=lambda L: [L.dense(6), L.bn(), L.act("relu")],
    einsum_dense=lambda L: [L.einsum("abc,cd->abd", (8, 4), "d"), L.bn(), L.act("relu")],
)
chains(
    "linear layer",
    VOLUME,
    conv3d=lambda L: [L.conv(3, rank=3), L.bn(), L.act("relu")],
    transposed3d=lambda L: [L.transposed(3, 2, strides=2, rank=3), L.bn(), L.act("relu")],
)
chains(
    "linear layer",
    VECTOR,
    dense=lambda L: [L.dense(6), L.bn(), L.act("relu"), L.dense(4)],
    dense_without_bias=lambda L: [L.dense(6, bias=False), L.bn(), L.act("tanh"), L.dense(4)],
)

# --- each setting of the BN itself ----------------------------------------------------------------

chains(
    "setting of BN",
    IMAGE,
    no_scale=lambda L: [L.conv(4), L.bn(scale=False), L.act("relu")],
    no_center=lambda L: [L.conv(4), L.bn(center=False), L.act("relu")],
    no_scale_no_center=lambda L: [L.conv(4), L.bn(scale=False, center=False), L.act("relu")],
    large_epsilon=lambda L: [L.conv(4), L.bn(epsilon=0.1), L.act("relu")],
    frozen=lambda L: [L.conv(4), L.bn(trainable=False), L.act("relu")],
    chain_of_two=lambda L: [L.conv(4), L.bn(), L.bn(), L.act("relu")],
    at_the_end=lambda L: [L.conv(4), L.act("relu"), L.conv(4), L.bn()],
    subclass_that_doubles=lambda L: [L.conv(4), L.doubling_bn(), L.act("relu")],
    training_true_in_the_graph=lambda L: [L.conv(4), L.bn(call_training=True), L.act("relu")],
    training_false_in_the_graph=lambda L: [L.conv(4), L.bn(call_training=False), L.act("relu")],
)

# --- a BN in front of what could take it up -------------------------------------------------------

chains(
    "BN in front",
    IMAGE,
    at_input_before_conv=lambda L: [L.bn(), L.conv(4, padding="valid"), L.act("relu")],
    at_input_before_padded_conv=lambda L: [L.bn(), L.conv(4), L.act("relu")],
    before_conv=lambda L: [L.conv(4, act="relu"), L.bn(), L.conv(5, padding="valid")],
    before_padded_conv=lambda L: [L.conv(4, act="relu"), L.bn(), L.conv(5)],
    before_depthwise=lambda L: [L.conv(4, act="relu"), L.bn(), L.depthwise(padding="valid")],
    before_conv_1x1=lambda L: [L.conv(4), L.act("relu"), L.bn(), L.conv(5, 1, bias=False)],
    before_flatten_dense=lambda L: [L.conv(4, act="relu"), L.bn(), L.flatten(), L.dense(4)],
    before_pooling_dense=lambda L: [L.conv(4, act="relu"), L.bn(), L.global_pool(), L.dense(4)],
    before_average_conv=lambda L: [L.act("relu"), L.bn(), L.average_pool(), L.conv(4, 1)],
    between_activations=lambda L: [L.act("relu"), L.bn(), L.act("tanh")],
)
chains(
    "BN in front",
    VECTOR,
    before_dense=lambda L: [L.dense(6, act="relu"), L.bn(), L.dense(4, bias=False)],
    before_and_behind_dense=lambda L: [L.bn(), L.dense(6), L.bn(), L.act("relu"), L.dense(4)],
)

# --- something between the linear layer and the BN ------------------------------------------------

chains(
    "layer between",
    IMAGE,
    relu_between=lambda L: [L.conv(4), L.act("relu"), L.bn(), L.act("relu")],
    activation_inside_conv=lambda L: [L.conv(4, act="relu"), L.bn(), L.act("tanh")],
    dropout_between=lambda L: [L.conv(4), L.dropout(), L.bn(), L.act("relu")],
    average_pooling_between=lambda L: [L.conv(4), L.average_pool(), L.bn(), L.act("relu")],
    max_pooling_between=lambda L: [L.conv(4), L.max_pool(), L.bn(), L.act("relu")],
    global_pooling_between=lambda L: [L.conv(4), L.global_pool(), L.bn(), L.act("relu")],
    zero_padding_between=lambda L: [L.conv(4), L.zero_pad(), L.bn(), L.act("relu")],
    cropping_between=lambda L: [L.conv(4), L.crop(), L.bn(), L.act("relu")],
    upsampling_between=lambda L: [L.conv(4), L.upsample(), L.bn(), L.act("relu")],
    permutation_between=lambda L: [L.conv(4), L.swap(), L.bn(), L.act("relu")],
    flatten_between=lambda L: [L.conv(4, padding="valid"), L.flatten(), L.bn(), L.dense(3)],
    padding_in_front=lambda L: [L.zero_pad(), L.conv(4, padding="valid"), L.bn(), L.act("relu6")],
)

# --- networks that branch and join ----------------------------------------------------------------


def conv_bn_relu(L: Any, x: Any, filters: int, size: int = 3, strides: int = 1) -> Any:
    return apply(x, L.conv(filters, size, strides=strides, bias=False), L.bn(), L.act("relu"))


def classified(L: Any, x: Any) -> Any:
    return apply(x, L.global_pool(), L.dense(4, act="softmax"))


@graph("branches")
def residual(L: Any) -> Any:
    inputs = L.input(IMAGE)
    x = conv_bn_relu(L, inputs, 4)
    x = L.act("relu")(L.add()([x, apply(x, L.conv(4), L.bn())]))
    y = apply(x, L.conv(6, strides=2), L.bn())
    skip = apply(x, L.conv(6, 1, strides=2), L.bn())
    return [inputs], [classified(L, L.act("relu")(L.add()([y, skip])))]


@graph("branches")
def pre_activation_residual(L: Any) -> Any:
    inputs = L.input(IMAGE)
    x = L.conv(4)(inputs)
    for _ in range(2):
        x = L.add()([x, apply(x, L.bn(), L.act("relu"), L.conv(4))])
    return [inputs], [classified(L, apply(x, L.bn(), L.act("relu")))]


@graph("branches")
def dense_concatenation(L: Any) -> Any:
    inputs = L.input(IMAGE)
    x = L.conv(4)(inputs)
    for _ in range(2):
        x = L.concat()([x, apply(x, L.bn(), L.act("relu"), L.conv(3))])
    return [inputs], [classified(L, L.bn()(x))]


@graph("branches")
def bn_of_a_sum(L: Any) -> Any:
    inputs = L.input(IMAGE)
    return [inputs], [apply(L.add()([L.conv(4)(inputs), L.conv(4)(inputs)]), L.bn(), L.act("relu"))]


@graph("branches")
def bn_of_a_concatenation(L: Any) -> Any:
    inputs = L.input(IMAGE)
    x = L.concat()([L.conv(4)(inputs), L.conv(3, 1)(inputs)])
    return [inputs], [apply(x, L.bn(), L.act("relu"))]


@graph("branches")
def inception(L: Any) -> Any:
    inputs = L.input(IMAGE)
    x = [conv_bn_relu(L, inputs, 3, 1), conv_bn_relu(L, conv_bn_relu(L, inputs, 3, 1), 4)]
    return [inputs], [classified(L, L.concat()(x))]


@graph("branches")
def repvgg(L: Any) -> Any:
    inputs = L.input(IMAGE)
    x = conv_bn_relu(L, inputs, 4)
    ways = [apply(x, L.conv(4, bias=False), L.bn()), apply(x, L.conv(4, 1, bias=False), L.bn())]
    return [inputs], [L.act("relu")(L.add()([*ways, L.bn()(x)]))]


@graph("branches")
def inverted_residual(L: Any) -> Any:
    inputs = L.input(IMAGE)
    x = conv_bn_relu(L, inputs, 4)
    y = apply(x, L.conv(8, 1, bias=False), L.bn(), L.act("relu6"))
    y = apply(y, L.depthwise(bias=False), L.bn(), L.act("relu6"), L.conv(4, 1, bias=False), L.bn())
    return [inputs], [classified(L, L.add()([x, y]))]


@graph("branches")
def squeeze_and_excitation(L: Any) -> Any:
    inputs = L.input(IMAGE)
    x = apply(inputs, L.conv(4), L.bn())
    gate = apply(x, L.average_pool(8), L.conv(4, 1, act="sigmoid"))
    return [inputs], [classified(L, L.multiply()([x, apply(gate, L.upsample(8))]))]


@graph("branches")
def u_net(L: Any) -> Any:
    inputs = L.input(IMAGE)
    high = conv_bn_relu(L, inputs, 4)
    low = conv_bn_relu(L, L.max_pool()(high), 6)
    up = apply(low, L.transposed(4, 2, 2), L.bn(), L.act("relu"))
    return [inputs], [apply(L.concat()([high, up]), L.conv(3), L.bn())]


# --- layers that others read, or that are called more than once -----------------------------------


@graph("several readers")
def conv_that_is_an_output(L: Any) -> Any:
    inputs = L.input(IMAGE)
    x = L.conv(4)(inputs)
    return [inputs], [x, apply(x, L.bn(), L.act("relu"))]


@graph("several readers")
def conv_with_two_readers(L: Any) -> Any:
    inputs = L.input(IMAGE)
    x = L.conv(4)(inputs)
    return [inputs], [L.add()([L.act("relu")(L.bn()(x)), L.act("tanh")(x)])]


@graph("several readers")
def conv_with_two_bns(L: Any) -> Any:
    inputs = L.input(IMAGE)
    x = L.conv(4)(inputs)
    return [inputs], [L.add()([apply(x, L.bn(), L.act("relu")), apply(x, L.bn(), L.act("tanh"))])]


@graph("several readers")
def bn_with_two_readers(L: Any) -> Any:
    inputs = L.input(IMAGE)
    x = apply(inputs, L.conv(4), L.bn())
    return [inputs], [L.add()([L.act("relu")(x), apply(x, L.conv(4), L.bn(), L.act("tanh"))])]


@graph("several readers")
def shared_conv_two_bns(L: Any) -> Any:
    inputs, conv = L.input(IMAGE), L.conv(3)
    first = apply(inputs, conv, L.bn(), L.act("relu"))
    return [inputs], [apply(first, conv, L.bn(), L.act("relu"))]


@graph("several readers")
def shared_pair(L: Any) -> Any:
    inputs, conv, norm = L.input(IMAGE), L.conv(3), L.bn()
    first = apply(inputs, conv, norm, L.act("relu"))
    return [inputs], [apply(first, conv, norm, L.act("relu"))]


@graph("several readers")
def shared_bn_two_convs(L: Any) -> Any:
    inputs, norm = L.input(IMAGE), L.bn()
    first = apply(inputs, L.conv(4), norm, L.act("relu"))
    return [inputs], [apply(first, L.conv(4), norm, L.act("relu"))]


@graph("several readers")
def two_inputs_two_outputs(L: Any) -> Any:
    image, vector = L.input(IMAGE), L.input(VECTOR)
    x = apply(image, L.conv(4), L.bn(), L.act("relu"), L.global_pool())
    y = apply(vector, L.dense(4), L.bn(), L.act("relu"))
    return [image, vector], [L.dense(2)(L.concat()([x, y])), L.dense(3)(y)]


# --- models in models -----------------------------------------------------------------------------


@graph("nested models")
def nested_model(L: Any) -> Any:
    inputs = L.input(IMAGE)
    inner = L.model(IMAGE, lambda x: conv_bn_relu(L, x, 4))
    return [inputs], [apply(inner(inputs), L.conv(3), L.bn(), L.act("relu"))]


@graph("nested models")
def nested_twice(L: Any) -> Any:
    inputs = L.input(IMAGE)
    innermost = L.model(IMAGE, lambda x: conv_bn_relu(L, x, 3))
    inner = L.model(IMAGE, lambda x: conv_bn_relu(L, innermost(x), 4))
    return [inputs], [classified(L, inner(inputs))]


@graph("nested models")
def bn_behind_a_nested_model(L: Any) -> Any:
    inputs = L.input(IMAGE)
    inner = L.model(IMAGE, L.conv(4))
    return [inputs], [apply(inner(inputs), L.bn(), L.act("relu"))]


@graph("nested models")
def nested_model_called_twice(L: Any) -> Any:
    inputs = L.input(IMAGE)
    inner = L.model(IMAGE, lambda x: conv_bn_relu(L, x, 3))
    return [inputs], [classified(L, inner(inner(inputs)))]
