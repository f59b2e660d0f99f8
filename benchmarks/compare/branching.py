"""Graphs that branch and join, layers that are called more than once, models in models."""

from __future__ import annotations

from typing import Any

from .written import IMAGE, VECTOR, apply, graph

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
