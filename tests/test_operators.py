"""Bare functions on tensors are layers by another name: what a layer lets through, so do they."""

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.numerics.affine import Affine, compact
from bnfix.operations import proven
from bnfix.passes import moving

CLOSE = 1e-5
BIAS = {"bias_initializer": "glorot_uniform"}
PER_CHANNEL = np.array([0.5, -2.0, 1.5, 3.0], "float32")


def between(K, act, *, down=False, joins=False, positive=False):
    """`act` between a convolution and a BN; with `down` between the BN and a Dense."""
    L, f = K.layers, zoo.functions(K)
    K.utils.set_random_seed(0)
    inputs = K.Input((6, 5, 3))
    if down:
        x = L.BatchNormalization()(L.ReLU()(L.Conv2D(4, 3, **BIAS)(inputs)))
        x = L.Dense(3, **BIAS)(L.Flatten()(act(f, x)))
    else:
        x = [L.Conv2D(4, 3, **BIAS)(inputs) for _ in range(1 + joins)]
        x = L.ReLU()(L.BatchNormalization()(act(f, *x)))
    model = K.Model(inputs, x)
    zoo.randomise_batch_norms(model, 0)
    for norm in zoo.batch_norms(model) if positive else ():
        norm.gamma.assign(np.abs(np.asarray(norm.gamma)) + 0.1)
    return model


def folds(model):
    x = zoo.inputs_for(model, rows=3)
    wanted = ref.inferred(model, x)
    folded, report = bnfix.fold(model, return_report=True)
    assert not zoo.batch_norms(folded), str(report)
    ref.assert_close(ref.inferred(folded, x), wanted, CLOSE)


ONE = {
    "plus": lambda f, x: x + 1.5,
    "plus_channels": lambda f, x: x + PER_CHANNEL,
    "constant_minus": lambda f, x: 2.0 - x,
    "times": lambda f, x: 2 * x,
    "times_channels": lambda f, x: x * PER_CHANNEL,
    "divided": lambda f, x: x / PER_CHANNEL,
    "negative": lambda f, x: -x,
    "chained": lambda f, x: (x / 2 - 0.5) * 3.0,
    "reshape": lambda f, x: f.reshape(x, (-1, 12, 4)),
    "transpose_positions": lambda f, x: f.transpose(x, (0, 2, 1, 3)),
    "expand_dims": lambda f, x: f.expand_dims(x, 1),
    "new_axis": lambda f, x: x[:, None],
    "crop": lambda f, x: x[:, 1:-1, ::2],
    "reverse": lambda f, x: x[:, ::-1],
    "one_position": lambda f, x: x[:, 0, 1],
    "mean": lambda f, x: f.mean(x, (1, 2)),
    "mean_kept": lambda f, x: f.mean(x, (1, 2), keepdims=True),
    "stop_gradient": lambda f, x: f.stop_gradient(x),
    "cast_to_the_same": lambda f, x: f.cast(x, "float32"),
    "reflected": lambda f, x: f.pad(x, [[0, 0], [1, 1], [0, 2], [0, 0]], mode="reflect"),
}


#: What older Kerases cannot record, and what a backend cannot run.
NEEDS = {
    "stop_gradient": pytest.mark.since(keras3="3.8"),
    "reverse": pytest.mark.skipif(zoo.BACKEND == "torch", reason="PyTorch slices forwards only"),
}
NAMES = [pytest.param(name, marks=NEEDS.get(name, ())) for name in ONE]


@pytest.mark.every(3)
@pytest.mark.parametrize("name", NAMES)
def test_a_normalization_passes_up_what_a_layer_would_let_it_pass(K, name):
    folds(between(K, ONE[name]))


@pytest.mark.every(3)
@pytest.mark.parametrize("name", NAMES)
def test_a_normalization_passes_down_as_well(K, name):
    folds(between(K, ONE[name], down=True))


def test_part_of_the_channels_takes_up_its_part(K):
    K.utils.set_random_seed(0)
    L, f = K.layers, zoo.functions(K)
    inputs = K.Input((6, 5, 3))
    x = L.Conv2D(6, 3, **BIAS)(inputs)
    a, _, c = f.split(x, 3, axis=-1)
    model = K.Model(inputs, [L.ReLU()(L.BatchNormalization()(part)) for part in (a, c)])
    zoo.randomise_batch_norms(model, 0)
    folds(model)
    x = L.Conv2D(6, 3, **BIAS)(inputs)[..., 1:4]
    model = K.Model(inputs, L.ReLU()(L.BatchNormalization()(x)))
    zoo.randomise_batch_norms(model, 0)
    folds(model)


def test_a_normalization_goes_down_into_all_parts(K):
    L, f = K.layers, zoo.functions(K)
    inputs = K.Input((6,))
    a, b, _ = f.split(L.BatchNormalization()(L.ReLU()(inputs)), 3, axis=-1)
    model = K.Model(inputs, [L.Dense(2)(a), L.Dense(3)(b)])
    zoo.randomise_batch_norms(model, 0)
    folds(model)


JOINED = {
    "add": lambda f, x, y: x + y,
    "subtract": lambda f, x, y: x - y,
    "subtract_function": lambda f, x, y: f.subtract(x, y),
    "concatenate": lambda f, x, y: f.concatenate([x, y], axis=-1),
    "concatenate_positions": lambda f, x, y: f.concatenate([x, y], 1),
}


@pytest.mark.parametrize("name", JOINED)
def test_a_normalization_passes_joins(K, name):
    folds(between(K, JOINED[name], joins=True))


def test_order_is_kept_by_positive_scales(K):
    folds(between(K, lambda f, x, y: f.maximum(x, y), joins=True, positive=True))
    folds(between(K, lambda f, x: f.max(x, (1, 2)), positive=True))


@pytest.mark.since(keras3="3.13")
def test_who_asks_for_a_shape_reads_no_data(K):
    """Masks of joined branches are made in the shape of what they mask."""
    L = K.layers
    inputs = K.Input((7,), dtype="int32")
    embedded = L.Embedding(9, 5, mask_zero=True)(inputs)
    joined = L.Concatenate()([L.Dense(4)(embedded), L.Dense(3)(embedded)])
    x = L.ReLU()(L.BatchNormalization()(L.GlobalAveragePooling1D()(joined)))
    model = K.Model(inputs, x)
    zoo.randomise_batch_norms(model, 0)
    x = np.array([[1, 2, 3, 0, 0, 0, 0], [4, 5, 6, 7, 8, 1, 2]])
    folded = bnfix.fold(model, x=x, strict=True)
    ref.assert_close(ref.inferred(folded, x), ref.inferred(model, x), CLOSE)


STOPS = {
    "relu": (lambda f, x: f.relu(x), r"\(ReLU\), which is not a linear"),
    "zero": (lambda f, x: x * np.array([1, 0, 2, 3], "f4"), "multiplies by zero"),
    "zeros_beside": (
        lambda f, x: f.pad(x, [[0, 0], [1, 1], [0, 0], [0, 0]]),
        "adds a constant, which the map would change",
    ),
    "channels_beside": (
        lambda f, x: f.pad(x, [[0, 0], [0, 0], [0, 0], [1, 1]], mode="reflect"),
        "joins positions that the normalization treats differently",
    ),
    "channels_moved": (lambda f, x: f.transpose(x, (0, 3, 1, 2)), "but the channels of"),
    "rows_mixed": (lambda f, x: f.reshape(x, (-1, 4)), r"\(Operation\), which is not a linear"),
    "rows_moved": (lambda f, x: f.transpose(x, (1, 0, 2, 3)), r"\(Operation\)"),
    "rows_taken": (lambda f, x: x[::2, :], r"\(Operation\)"),
    "rows_joined": (lambda f, x: f.concatenate([x, x], 0), r"\(Operation\)"),
    "power": (lambda f, x: x**2, r"\(Operation\)"),
    "reciprocal": (lambda f, x: 1.0 / x, r"\(Operation\)"),
    "product": (lambda f, x: x * x, r"\(Multiply\), which is not a linear"),
    "random_order": (lambda f, x: f.max(x, (1, 2)), "some scales of the normalization"),
}


@pytest.mark.parametrize("name", STOPS)
def test_what_a_layer_would_not_let_through_stays_with_its_reason(K, name):
    import re

    act, reason = STOPS[name]
    model = between(K, act)
    for norm in zoo.batch_norms(model):
        norm.gamma.assign(-np.abs(np.asarray(norm.gamma)))
    _, report = bnfix.fold(model, return_report=True)
    details = " | ".join(outcome.detail for outcome in report.declined)
    assert re.search(reason, details), f"{reason!r} is not in: {report}"


def test_what_may_be_trained_is_no_constant(K):
    """A variable in an expression is no number, whatever it holds now."""
    if K.__name__ == "keras":
        variable = K.Variable(np.ones(4, "f4"))
    else:
        tf = zoo.tensorflow()
        variable = tf.Variable(np.ones(4, "f4"))
    model = between(K, lambda f, x: x * variable)
    _, report = bnfix.fold(model, return_report=True)
    assert report.declined


def test_a_size_that_is_computed_is_no_option():
    """In Keras 3 shapes are numbers, or None."""
    K = zoo.keras_module("tf_keras")
    tf = zoo.tensorflow()
    model = between(K, lambda f, x: tf.reshape(x, [tf.shape(x)[0], 12, 4]))
    _, report = bnfix.fold(model, return_report=True)
    assert "(Operation)" in report.declined[0].detail


@pytest.mark.both
@pytest.mark.parametrize("name", NAMES)
def test_the_private_names_of_operations_are_still_there(K, name):
    """Every function of this file is read as a layer; a Keras that records it otherwise shows."""
    graph = bnfix.graph_of(between(K, ONE[name]))
    assert not graph.of_kind("Operation"), [c.name for c in graph.of_kind("Operation")]


@pytest.mark.both
def test_the_private_names_of_operations_that_join_are_still_there(K):
    for act in JOINED.values():
        assert not bnfix.graph_of(between(K, act, joins=True)).of_kind("Operation")


# --- shown able to fail ---------------------------------------------------------------------------


def forgets_the_offset(call, options, affine):
    scale, _ = moving._stretched(call, options, affine.rank)
    return compact(affine.scale, affine.shift / scale)


def goes_on_beside(self, index, row, *, alone):
    return RIGHT_PLACED(self, index, row, alone=True)


RIGHT_PLACED = Affine.placed


def test_a_wrong_rescaling_would_be_seen(K, monkeypatch):
    monkeypatch.setattr(proven, "verify", ref.not_checked)
    monkeypatch.setitem(
        moving._ONE_INPUT, "Rescaling", (forgets_the_offset, moving._rescaled_after)
    )
    with pytest.raises(AssertionError):
        folds(between(K, ONE["plus"]))


def test_a_map_that_goes_on_over_other_parts_would_be_seen(K, monkeypatch):
    monkeypatch.setattr(proven, "verify", ref.not_checked)
    monkeypatch.setattr(Affine, "placed", goes_on_beside)
    L, f = K.layers, zoo.functions(K)
    inputs = K.Input((6, 5, 3))
    first, second = f.split(L.Conv2D(4, 3, **BIAS)(inputs), 2, axis=1)
    model = K.Model(inputs, [L.ReLU()(L.BatchNormalization()(first)), L.ReLU()(second)])
    zoo.randomise_batch_norms(model, 0)
    with pytest.raises(AssertionError):
        folds(model)
