"""Recurrent layers, masks, and layers applied to each time step."""

from types import ModuleType
from typing import Any

import numpy as np

from .common import BIAS, SAME, SEQUENCE, chain, classify
from .entry import Collection

zoo = Collection()


def _padded(rows: int, rng: np.random.Generator) -> Any:
    """Sequences with 0 to 3 zero steps at the end."""
    x = rng.standard_normal((rows, *SEQUENCE)).astype("float32")
    for row, length in enumerate(_lengths(rows)):
        x[row, length:] = 0
    return x


def _padded_tokens(rows: int, rng: np.random.Generator) -> Any:
    tokens = rng.integers(1, 8, (rows, 6)).astype("int32")
    for row, length in enumerate(_lengths(rows)):
        tokens[row, length:] = 0
    return tokens


def _lengths(rows: int) -> list[int]:
    return [6 - row % 4 for row in range(rows)]


@zoo.entry("functional", "bn", "rnn")
def lstm(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        SEQUENCE,
        L.BatchNormalization(),
        L.LSTM(4, return_sequences=True),
        L.BatchNormalization(),
        L.LSTM(3),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn", "rnn")
def bidirectional_lstm(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        SEQUENCE,
        L.Bidirectional(L.LSTM(3, return_sequences=True)),
        L.BatchNormalization(),
        L.Bidirectional(L.GRU(2), merge_mode="sum"),
        L.Dense(4, **BIAS),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn", "rnn")
def gru_stack(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        (None, 5),
        L.GRU(4, return_sequences=True),
        L.BatchNormalization(),
        L.GRU(4, return_sequences=True, go_backwards=True, reset_after=False),
        L.BatchNormalization(),
        L.SimpleRNN(3),
        L.Dense(3, **BIAS),
    )


@zoo.entry("functional", "bn", "rnn")
def stacked_cells(K: ModuleType) -> Any:
    L = K.layers
    cells = [L.LSTMCell(3), L.GRUCell(4)]
    return chain(K, SEQUENCE, L.RNN(cells, return_sequences=True), L.BatchNormalization())


@zoo.entry("functional", "bn", "rnn", "multi_io")
def encoder_decoder(K: ModuleType) -> Any:
    """A layer with three outputs, two of which are the initial state of the next."""
    L = K.layers
    source, target = K.Input(SEQUENCE, name="source"), K.Input((4, 3), name="target")
    _, h, c = L.LSTM(4, return_state=True)(L.BatchNormalization()(source))
    x, h, _ = L.LSTM(4, return_sequences=True, return_state=True)(target, initial_state=[h, c])
    return K.Model([source, target], [L.BatchNormalization()(x), L.BatchNormalization()(h)])


@zoo.entry("functional", "bn", "rnn")
def conv_lstm(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        (3, 6, 6, 2),
        L.ConvLSTM2D(3, 3, padding="same", return_sequences=True),
        L.BatchNormalization(),
        L.ConvLSTM2D(2, 3),
    )


@zoo.entry("functional", "bn", "rnn", "mask", sample=_padded)
def masking_lstm(K: ModuleType) -> Any:
    """The BN passes the mask on, and its training-mode moments leave masked steps out."""
    L = K.layers
    return chain(
        K,
        SEQUENCE,
        L.Masking(),
        L.Dense(4, **BIAS),
        L.BatchNormalization(),
        L.LSTM(4, return_sequences=True),
        L.BatchNormalization(),
        L.GlobalAveragePooling1D(),
    )


@zoo.entry("functional", "bn", "rnn", "mask", "int_input", sample=_padded_tokens)
def embedding_mask_zero(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        (None,),
        L.Embedding(8, 5, mask_zero=True),
        L.BatchNormalization(),
        L.Bidirectional(L.LSTM(3)),
        L.Dense(4, **BIAS),
        L.BatchNormalization(),
        dtype="int32",
    )


@zoo.entry("functional", "bn", "mask", "int_input", sample=_padded_tokens)
def mask_given_by_hand(K: ModuleType) -> Any:
    """`mask=` is a tensor of the graph, read from one layer and given to another."""
    L = K.layers
    tokens = K.Input((6,), dtype="int32")
    embedding = L.Embedding(8, 5, mask_zero=True)
    mask = embedding.compute_mask(tokens)
    x = L.BatchNormalization()(L.Dense(4, **BIAS)(embedding(tokens)))
    return K.Model(tokens, L.GlobalAveragePooling1D()(x, mask=mask))


@zoo.entry("functional", "bn")
def time_distributed_layers(K: ModuleType) -> Any:
    L = K.layers
    inputs = K.Input((4, 6, 6, 2))
    x = L.TimeDistributed(L.Conv2D(3, 3, **SAME))(inputs)
    x = L.ReLU()(L.BatchNormalization()(x))
    x = L.TimeDistributed(L.Flatten())(x)
    x = L.BatchNormalization()(L.TimeDistributed(L.Dense(4, **BIAS))(x))
    return K.Model(inputs, x)


@zoo.entry("functional", "bn", "opaque_bn")
def time_distributed_bn(K: ModuleType) -> Any:
    L = K.layers
    return chain(
        K,
        (4, 6, 6, 2),
        L.TimeDistributed(L.Conv2D(3, 3, **BIAS)),
        L.TimeDistributed(L.BatchNormalization()),
        L.ReLU(),
        L.BatchNormalization(),
    )


@zoo.entry("functional", "bn", "opaque_bn", "nested", "rnn")
def time_distributed_model(K: ModuleType) -> Any:
    """A video classifier: a small network with a BN on each frame, then an LSTM."""
    L = K.layers
    frame = chain(K, (6, 6, 2), L.Conv2D(3, 3, **BIAS), L.BatchNormalization(), L.ReLU())
    features = K.Model(frame.input, classify(K, frame.output), name="frame")
    return chain(K, (4, 6, 6, 2), L.TimeDistributed(features), L.LSTM(3), L.BatchNormalization())
