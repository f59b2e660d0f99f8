"""Preprocessing layers with state that is no weight: vocabularies and adapted statistics."""

from types import ModuleType
from typing import Any

import numpy as np

from .common import BIAS, SAME, chain, classify
from .entry import Collection
from .inputs import WORDS

zoo = Collection()


@zoo.entry("functional", "bn", "preprocessing", "two_d_only")
def normalization_adapted(K: ModuleType) -> Any:
    """Followed by Dense and BN: affine before, affine after."""
    L = K.layers
    normalization = L.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(3, 2, (64, 5)).astype("float32"))
    return chain(K, (5,), normalization, L.Dense(4, **BIAS), L.BatchNormalization(), L.ReLU())


@zoo.entry("functional", "bn", "preprocessing")
def normalization_given(K: ModuleType) -> Any:
    L = K.layers
    normalization = L.Normalization(mean=[0.5, 0.4, 0.3], variance=[0.2, 0.3, 0.4])
    return chain(K, (8, 8, 3), normalization, L.Conv2D(4, 3, **BIAS), L.BatchNormalization())


@zoo.entry("functional", "bn", "preprocessing", "stochastic")
def image_pipeline(K: ModuleType) -> Any:
    """Resizing, rescaling and augmentation inside the model, the last active in training only."""
    L = K.layers
    x = inputs = K.Input((12, 10, 3))
    for layer in (
        L.Resizing(10, 10),
        L.CenterCrop(8, 8),
        L.Rescaling(1 / 2, offset=0.1),
        L.RandomFlip("horizontal"),
        L.RandomRotation(0.1),
        L.Conv2D(4, 3, **SAME),
        L.BatchNormalization(),
    ):
        x = layer(x)
    return K.Model(inputs, classify(K, x))


@zoo.entry("functional", "bn", "preprocessing", "string_input", "two_d_only", "tensorflow")
def string_lookup(K: ModuleType) -> Any:
    L = K.layers
    lookup = L.StringLookup(vocabulary=list(WORDS[:3]), output_mode="multi_hot")
    return chain(
        K, (2,), lookup, L.Dense(4, **BIAS), L.BatchNormalization(), L.ReLU(), dtype="string"
    )


@zoo.entry("functional", "bn", "preprocessing", "string_input", "tensorflow")
def text_vectorization(K: ModuleType) -> Any:
    L = K.layers
    vectorize = L.TextVectorization(max_tokens=8, output_sequence_length=4)
    vectorize.adapt([" ".join(WORDS), "cat dog", "cat bird"])
    x = inputs = K.Input((1,), dtype="string")
    x = L.Embedding(8, 5)(vectorize(x))
    x = L.BatchNormalization()(L.Conv1D(4, 2, **BIAS)(x))
    return K.Model(inputs, L.Dense(3, **BIAS)(L.GlobalMaxPooling1D()(x)))


@zoo.entry("functional", "bn", "preprocessing", "int_input", "two_d_only", "tensorflow")
def integer_lookup_and_encoding(K: ModuleType) -> Any:
    L = K.layers
    lookup = L.IntegerLookup(vocabulary=[1, 3, 5], output_mode="int")
    return chain(
        K,
        (2,),
        lookup,
        L.CategoryEncoding(num_tokens=5, output_mode="multi_hot"),
        L.Dense(4, **BIAS),
        L.BatchNormalization(),
        dtype="int64",
    )


@zoo.entry(
    "functional",
    "bn",
    "tensorflow",
    "preprocessing",
    "string_input",
    "int_input",
    "multi_io",
    "two_d_only",
    since={"keras3": "3.15"},
)
def tabular(K: ModuleType) -> Any:
    """Numbers, integers and strings by name, as structured-data models have them."""
    L = K.layers
    inputs = {
        "size": K.Input((2,), name="size"),
        "kind": K.Input((1,), name="kind", dtype="string"),
        "code": K.Input((1,), name="code", dtype="int32"),
    }
    size = L.BatchNormalization()(inputs["size"])
    buckets = L.Discretization([-0.5, 0.5], output_mode="multi_hot")(inputs["size"])
    kind = L.StringLookup(vocabulary=list(WORDS), output_mode="one_hot")(inputs["kind"])
    code = L.Flatten()(L.Embedding(8, 3)(inputs["code"]))
    x = L.Concatenate()([size, buckets, kind, code])
    x = L.BatchNormalization()(L.Dense(4, **BIAS)(x))
    return K.Model(inputs, L.Dense(1, activation="sigmoid", **BIAS)(L.ReLU()(x)))


@zoo.entry("functional", "bn", "int_input")
def embedding(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        (6,),
        L.Embedding(8, 5),
        L.BatchNormalization(),
        L.Flatten(),
        L.Dense(3, **BIAS),
        dtype="int32",
    )


@zoo.entry("functional", "bn", "preprocessing", "string_input", "tensorflow")
def hashing(K: ModuleType) -> Any:
    L = K.layers
    x = inputs = K.Input((3,), dtype="string")
    x = L.Embedding(8, 4)(L.Hashing(num_bins=8)(x))
    return K.Model(inputs, L.BatchNormalization()(L.Dense(3, **BIAS)(x)))
