"""Healthy models with what makes a check wary: chance, masks, states, preprocessing, low precision.

    for kind in healthy.KINDS:
        model, x = healthy.build(K, kind)

Each is small, its BatchNormalizations hold statistics that suit no batch in particular, and nothing
is wrong with it: `predict` treats each row by itself. `healthy.DEFAULTS` are those in which
`model(x)` is another thing, by the default of a layer.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import zoo

#: From a Keras module to layers that stand before a convolution; images are (8, 8, 3).
_IMAGES: dict[str, Callable[[Any], list[Any]]] = {
    "random_flip": lambda L: [L.RandomFlip("horizontal_and_vertical")],
    "random_rotation": lambda L: [L.RandomRotation(0.2)],
    "random_zoom": lambda L: [L.RandomZoom(0.2)],
    "random_translation": lambda L: [L.RandomTranslation(0.2, 0.2)],
    "random_contrast": lambda L: [L.RandomContrast(0.3)],
    "random_brightness": lambda L: [L.RandomBrightness(0.3)],
    # Keras 3 crops in training alone, and passes on the whole image else, whatever shape it says.
    "random_crop": lambda L: [L.RandomCrop(6, 6), L.Resizing(6, 6)],
    "resizing": lambda L: [L.Resizing(7, 7)],
    "center_crop": lambda L: [L.CenterCrop(6, 6)],
    "pipeline": lambda L: [L.Resizing(7, 7), L.Rescaling(1 / 255), L.RandomFlip()],
    "flip_then_dropout": lambda L: [L.RandomFlip(), L.SpatialDropout2D(0.3)],
    "rescaling": lambda L: [L.Rescaling(1 / 127.5, offset=-1)],
    "normalization": lambda L: [L.Normalization(mean=[100.0, 110, 120], variance=[4000.0] * 3)],
    "dropout": lambda L: [L.Dropout(0.4)],
    "spatial_dropout": lambda L: [L.SpatialDropout2D(0.4)],
    "gaussian_noise": lambda L: [L.GaussianNoise(0.9)],
    "gaussian_dropout": lambda L: [L.GaussianDropout(0.3)],
    "alpha_dropout": lambda L: [L.AlphaDropout(0.3)],
    "noise_and_dropout": lambda L: [L.Rescaling(1 / 255), L.GaussianNoise(0.1), L.Dropout(0.3)],
    "activity_regularization": lambda L: [L.ActivityRegularization(l2=1e-4)],
    "padding_and_cropping": lambda L: [L.ZeroPadding2D(2), L.Cropping2D(1)],
    "upsampling": lambda L: [L.UpSampling2D(2), L.MaxPooling2D(2)],
    "depthwise": lambda L: [L.DepthwiseConv2D(3, depth_multiplier=2), L.LeakyReLU()],
    "separable": lambda L: [L.SeparableConv2D(4, 3), L.PReLU(shared_axes=[1, 2])],
    "transposed": lambda L: [L.Conv2DTranspose(4, 3, strides=2)],
    "layer_norm_too": lambda L: [L.Rescaling(1 / 255), L.LayerNormalization()],
    "group_norm_too": lambda L: [L.Conv2D(4, 3), L.GroupNormalization(2)],
    "unit_norm_too": lambda L: [L.Rescaling(1 / 255), L.UnitNormalization(axis=-1)],
}

#: Layers that stand between a sequence (6, 4) and a BatchNormalization.
_SEQUENCES: dict[str, Callable[[Any], list[Any]]] = {
    "masking_lstm": lambda L: [L.Masking(), L.LSTM(4)],
    "masking_gru_sequences": lambda L: [L.Masking(), L.GRU(4, return_sequences=True)],
    "masking_simple_rnn": lambda L: [L.Masking(), L.SimpleRNN(4, return_sequences=True)],
    "masking_bidirectional": lambda L: [L.Masking(), L.Bidirectional(L.LSTM(3))],
    "masking_before_bn": lambda L: [L.Masking()],
    "lstm_with_dropout": lambda L: [L.LSTM(4, dropout=0.3, recurrent_dropout=0.2)],
    "gru_with_dropout": lambda L: [L.GRU(4, dropout=0.3, reset_after=False)],
    "stacked_rnn": lambda L: [L.LSTM(4, return_sequences=True), L.GRU(3)],
    "bidirectional_gru": lambda L: [L.Bidirectional(L.GRU(3, return_sequences=True))],
    "time_distributed": lambda L: [L.TimeDistributed(L.Dense(4)), L.Dropout(0.3)],
    "conv1d_and_dropout": lambda L: [L.Conv1D(4, 3), L.SpatialDropout1D(0.3)],
    "causal_convolution": lambda L: [L.Conv1D(4, 3, padding="causal"), L.ReLU()],
    "rnn_backwards": lambda L: [L.LSTM(4, go_backwards=True, return_sequences=True)],
}

_POLICIES = ("mixed_float16", "mixed_bfloat16", "float64", "float16")
#: Under each of the policies.
_IN_OTHER_PRECISIONS = ("dropout", "random_flip", "pipeline", "masking_lstm", "gru_with_dropout")

_WORDS = ("words_lstm", "words_bidirectional", "words_attention", "words_pooled")
_TABLES = ("discretized", "categories", "hashed", "normalized_columns", "two_inputs")

KINDS = (
    *_IMAGES,
    *_SEQUENCES,
    *_WORDS,
    *_TABLES,
    *(f"{kind}_in_{policy}" for policy in _POLICIES for kind in _IN_OTHER_PRECISIONS),
    *(f"{kind}_nested" for kind in ("random_flip", "dropout", "masking_lstm", "pipeline")),
    *(f"{kind}_sequential" for kind in ("random_flip", "dropout", "resizing", "masking_lstm")),
    *(f"{kind}_subclassed" for kind in ("random_flip", "dropout", "masking_lstm")),
)
_RANDOM = ("random_", "pipeline", "flip_then_dropout")
_DETERMINISTIC = ("resizing", "center_crop")


def differs_by_default(kind: str, dialect: str) -> bool:
    """Whether `model(x)` augments, or in Keras 3 trains, where nobody says `training`."""
    trains = dialect == "keras3" and not zoo.too_old(dialect, "3.8")
    return kind.startswith(_RANDOM) or (trains and kind.startswith(_DETERMINISTIC))


def build(K: ModuleType, kind: str) -> tuple[Any, Any]:
    """The model, and rows for it."""
    K.utils.set_random_seed(0)
    name, policy, shape = _parsed(kind)
    before = _policy(K)
    _set_policy(K, policy)
    try:
        model, x = _made(K, name, shape)
    finally:
        _set_policy(K, before)
    zoo.randomise_batch_norms(model, 0)
    return model, x


def _parsed(kind: str) -> tuple[str, str, str]:
    for policy in _POLICIES:
        if kind.endswith(f"_in_{policy}"):
            return kind.removesuffix(f"_in_{policy}"), policy, "functional"
    for shape in ("nested", "sequential", "subclassed"):
        if kind.endswith(f"_{shape}"):
            return kind.removesuffix(f"_{shape}"), "float32", shape
    return kind, "float32", "functional"


def _policy(K: ModuleType) -> Any:
    return K.config.dtype_policy() if K.__name__ == "keras" else K.mixed_precision.global_policy()


def _set_policy(K: ModuleType, policy: Any) -> None:
    if K.__name__ == "keras":
        K.config.set_dtype_policy(policy)
    else:
        K.mixed_precision.set_global_policy(policy)


def _made(K: ModuleType, name: str, shape: str) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    if name in _WORDS:
        return _of_words(K, name), rng.integers(0, 9, size=(8, 5))
    if name in _TABLES:
        return _of_tables(K, name, rng)
    L = K.layers
    if name in _IMAGES:
        x = rng.uniform(0, 255, size=(8, 8, 8, 3)).astype("float32")
        layers = [*_IMAGES[name](L), L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU(), L.Flatten()]
    else:
        x = rng.normal(size=(8, 6, 4)).astype("float32")
        x[:4, 4:] = 0  # what a mask leaves out
        layers = [*_SEQUENCES[name](L), L.BatchNormalization(), L.Dropout(0.2), L.Flatten()]
    return _assembled(K, [*layers, L.Dense(2, dtype="float32")], x, shape), x


def _assembled(K: ModuleType, layers: list[Any], x: Any, shape: str) -> Any:
    if shape == "sequential":
        return K.Sequential([K.Input(x.shape[1:]), *layers])
    if shape == "subclassed":
        return _subclassed(K, layers, x)
    y = inputs = K.Input(x.shape[1:])
    for layer in layers:
        y = layer(y)
    model = K.Model(inputs, y)
    if shape == "nested":
        outer = K.Input(x.shape[1:])
        model = K.Model(outer, K.layers.Dense(2)(model(outer)))
    return model


def _subclassed(K: ModuleType, layers: list[Any], x: Any) -> Any:
    class Net(K.Model):
        def __init__(self) -> None:
            super().__init__()
            self.steps = layers

        def call(self, inputs: Any, training: Any = None) -> Any:
            for step in self.steps:
                inputs = step(inputs)
            return inputs

    model = Net()
    model(x)
    return model


def _of_words(K: ModuleType, name: str) -> Any:
    L = K.layers
    inputs = K.Input((5,), dtype="int64")
    x = L.Embedding(9, 4, mask_zero=name != "words_pooled")(inputs)
    if name == "words_attention":
        x = L.MultiHeadAttention(2, 3, dropout=0.2)(x, x)
        x = L.GlobalAveragePooling1D()(x)
    elif name == "words_pooled":
        x = L.GlobalMaxPooling1D()(x)
    else:
        x = L.LSTM(3)(x) if name == "words_lstm" else L.Bidirectional(L.GRU(3))(x)
    return K.Model(inputs, L.Dense(2)(L.BatchNormalization()(x)))


def _of_tables(K: ModuleType, name: str, rng: Any) -> tuple[Any, Any]:
    L = K.layers
    if name == "two_inputs":
        inputs = [K.Input((3,)), K.Input((2,))]
        x = L.Concatenate()([L.BatchNormalization()(inputs[0]), L.Dropout(0.3)(inputs[1])])
        given = [rng.normal(size=(8, 3)), rng.normal(size=(8, 2))]
        return K.Model(inputs, L.Dense(2)(L.BatchNormalization()(x))), given
    whole = name in ("categories", "hashed")
    inputs = K.Input((3,), dtype="int64" if whole else "float32")
    layer = {
        "discretized": lambda: L.Discretization(bin_boundaries=[-1.0, 0.0, 1.0]),
        "categories": lambda: L.CategoryEncoding(num_tokens=9, output_mode="multi_hot"),
        "hashed": lambda: L.Hashing(num_bins=5),
        "normalized_columns": lambda: L.Normalization(mean=[1.0, 2, 3], variance=[1.0, 4, 9]),
    }[name]()
    x = layer(inputs)
    if name in ("discretized", "hashed"):
        x = L.Flatten()(L.Embedding(9, 3)(x))
    given = rng.integers(0, 9, size=(8, 3)) if whole else rng.normal(size=(8, 3))
    return K.Model(inputs, L.Dense(2)(L.BatchNormalization()(L.Dense(4)(x)))), given
