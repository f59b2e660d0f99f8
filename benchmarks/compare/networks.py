"""The two networks whose statistics are measured: ResNet50, and a small one for digits."""

from __future__ import annotations

from typing import Any

from .written import Graph, apply

#: As in keras.applications.
_EPSILON = 1.001e-5


def resnet50(L: Any) -> Any:
    inputs = L.input((96, 96, 3))
    x = apply(inputs, L.zero_pad(3), L.conv(64, 7, strides=2, padding="valid"))
    x = apply(x, L.bn(epsilon=_EPSILON), L.act("relu"), L.zero_pad(), L.max_pool(3))
    for filters, blocks, strides in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            x = _bottleneck(L, x, filters, strides if block == 0 else 1, widens=block == 0)
    return [inputs], [apply(x, L.global_pool(), L.dense(10))]


def _bottleneck(L: Any, x: Any, filters: int, strides: int, widens: bool) -> Any:
    skip = x
    if widens:
        wider = L.conv(4 * filters, 1, strides=strides, padding="valid")
        skip = apply(x, wider, L.bn(epsilon=_EPSILON))
    narrow = L.conv(filters, 1, strides=strides, padding="valid")
    x = apply(x, narrow, L.bn(epsilon=_EPSILON), L.act("relu"))
    x = apply(x, L.conv(filters), L.bn(epsilon=_EPSILON), L.act("relu"))
    x = apply(x, L.conv(4 * filters, 1), L.bn(epsilon=_EPSILON))
    return L.act("relu")(L.add()([skip, x]))


def digits(L: Any) -> Any:
    inputs = L.input((8, 8, 1))
    x = apply(inputs, L.conv(16), L.bn(), L.act("relu"))
    for _ in range(2):
        y = apply(x, L.conv(16), L.bn(), L.act("relu"), L.conv(16), L.bn())
        x = L.act("relu")(L.add()([x, y]))
    return [inputs], [apply(x, L.global_pool(), L.dense(10))]


NETWORKS = {
    "ResNet50": Graph("ResNet50", "statistics", resnet50),
    "digits": Graph("digits", "statistics", digits),
}
