"""Layers that take several tensors with different roles, and some that give several."""

from types import ModuleType
from typing import Any

from .common import BIAS, SEQUENCE
from .entry import Collection

zoo = Collection()


def _normed(K: ModuleType, x: Any, units: int = 4) -> Any:
    return K.layers.BatchNormalization()(K.layers.Dense(units, **BIAS)(x))


@zoo.entry("functional", "bn")
def self_attention(K: ModuleType) -> Any:
    """A transformer block with BN in place of layer normalization."""
    L = K.layers
    inputs = K.Input(SEQUENCE)
    x = _normed(K, inputs)
    x = L.BatchNormalization()(x + L.MultiHeadAttention(2, 3)(x, x))
    y = L.Dense(4, **BIAS)(L.Dense(8, activation="gelu", **BIAS)(x))
    return K.Model(inputs, L.BatchNormalization()(L.Add()([x, y])))


@zoo.entry("functional", "bn", "multi_io")
def cross_attention(K: ModuleType) -> Any:
    """Query, value and key from different places, a mask by keyword, scores as an output."""
    L = K.layers
    query, memory = K.Input((3, 4), name="query"), K.Input(SEQUENCE, name="memory")
    allowed = K.Input((3, 6), dtype="bool", name="allowed")
    x, scores = L.MultiHeadAttention(2, 3, value_dim=2)(
        _normed(K, query),
        _normed(K, memory),
        key=_normed(K, memory, 5),
        attention_mask=allowed,
        return_attention_scores=True,
    )
    return K.Model([query, memory, allowed], [L.BatchNormalization()(x), scores])


@zoo.entry("functional", "bn", "multi_io", since={"keras3": "3.8"})
def dot_product_attention(K: ModuleType) -> Any:
    L = K.layers
    query, memory = K.Input((3, 4), name="query"), K.Input(SEQUENCE, name="memory")
    q, v, k = _normed(K, query), _normed(K, memory), _normed(K, memory)
    x, scores = L.Attention(use_scale=True)([q, v, k], return_attention_scores=True)
    x = L.Concatenate()([x, L.AdditiveAttention()([q, v])])
    return K.Model({"query": query, "memory": memory}, [L.BatchNormalization()(x), scores])


@zoo.entry("functional", "bn", "two_d_only", "multi_io")
def dot_of_two_towers(K: ModuleType) -> Any:
    L = K.layers
    a, b = K.Input((5,), name="user"), K.Input((3,), name="item")
    return K.Model([a, b], L.Dot(axes=1, normalize=True)([_normed(K, a), _normed(K, b)]))
