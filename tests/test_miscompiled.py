"""What TensorFlow's compiled code computes wrongly: bnfix keeps clear of it, and names it.

The sweep looks for more of the kind, and prints a table:

    pytest tests/test_miscompiled.py -m long -s -n 0
"""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zoo

import bnfix
from bnfix.adapters.reading import Reading
from bnfix.adapters.subject import Subject
from bnfix.graph import miscompiled
from bnfix.operations import proven

ONEDNN = zoo.BACKEND == "tensorflow" and os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "1"


def leaky(slope):
    return lambda K: K.layers.LeakyReLU(slope)


def mish(K):
    return K.layers.Activation("mish")


def rectified(slope):
    return lambda K: K.layers.ReLU(negative_slope=slope)


def residual(K, activation, *, swapped=False, first=False, rank=2, between=None, bias=False):
    """Two residual blocks, as YOLO's and many a GAN's."""
    K.utils.set_random_seed(0)
    form = "channels_first" if first else "channels_last"
    shape = (4,) * (rank - 2) + (6, 7)
    inputs = y = K.Input((8, *shape) if first else (*shape, 8))
    conv = {2: K.layers.Conv2D, 3: K.layers.Conv3D}[rank]
    for _ in range(2):
        z = conv(8, 3, padding="same", use_bias=bias, data_format=form)(y)
        z = K.layers.BatchNormalization(axis=1 if first else -1)(z)
        z = between(K)(z) if between else z
        y = activation(K)(K.layers.Add()([z, y] if swapped else [y, z]))
    model = K.Model(inputs, y)
    r = np.random.default_rng(0)
    model.set_weights(
        [
            r.uniform(0.5, 1.5, w.shape) if w.ndim == 1 else 0.3 * r.normal(size=w.shape)
            for w in model.get_weights()
        ]
    )
    return model


def predicted(model, rows=4):
    (x,) = (np.random.default_rng(1).normal(size=(rows, *model.input.shape[1:])).astype("f"),)
    return x, np.asarray(model.predict(x, verbose=0))


def assert_predict_is_kept(model):
    x, wanted = predicted(model)
    folded, report = bnfix.fold(model, return_report=True)
    got = np.asarray(folded.predict(x, verbose=0))
    assert np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max()
    return folded, report


ACTIVATIONS = {
    **{f"leaky_{slope}": leaky(slope) for slope in (0.01, 0.1, 0.3)},
    "relu_slope": rectified(0.3),
    "mish": mish,
}


#: Keras 3 adds a bias in the way that TensorFlow fuses wrongly since that version.
FUSED = pytest.mark.since(keras3="3.7")


@pytest.mark.every(2)
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_folding_changes_no_predict_where_compiled_code_loses_the_activation(K, name, swapped):
    _, report = assert_predict_is_kept(residual(K, ACTIVATIONS[name], swapped=swapped))
    assert all(miscompiled.SWITCH in outcome.detail for outcome in report.declined)


@pytest.mark.parametrize("options", [{"first": True}, {"rank": 3}, {"bias": True}])
def test_in_every_layout_and_rank_and_with_a_bias_of_its_own(K, options):
    assert_predict_is_kept(residual(K, leaky(0.3), **options))


def test_what_vanishes_at_inference_does_not_hide_the_pattern(K):
    dropout = residual(K, leaky(0.3), between=lambda K: K.layers.Dropout(0.5))
    linear = residual(K, leaky(0.3), between=lambda K: K.layers.Activation("linear"))
    for model in (dropout, linear):
        _, report = assert_predict_is_kept(model)
        assert len(report.declined) == 2


@pytest.mark.parametrize("activation", [leaky(0.2), lambda K: K.layers.ReLU()])
def test_what_is_compiled_rightly_folds(K, activation):
    folded, _ = assert_predict_is_kept(residual(K, activation))
    assert not zoo.batch_norms(folded)


@FUSED
def test_activations_that_nobody_can_read_are_found_by_the_proof_and_kept_apart(K):
    """A slope in a function of the user's own: only compiled code shows it."""
    f = zoo.functions(K)
    own = lambda K: K.layers.Lambda(lambda x: f.leaky_relu(x, 0.3))  # noqa: E731
    _, report = assert_predict_is_kept(residual(K, own))
    assert len(report.declined) == (2 if ONEDNN else 0)


@FUSED
def test_a_fold_that_takes_no_care_is_withheld(K, monkeypatch):
    """The mutant: without the list, compiled code of the folded model is wrong, and is caught."""
    if not ONEDNN:
        pytest.skip("TensorFlow with oneDNN, which computes it wrongly, is not here")
    monkeypatch.setattr(miscompiled, "merged", lambda *args, **options: iter(()))
    with pytest.raises(
        bnfix.VerificationError, match=f"compiled code.*{re.escape(miscompiled.SWITCH)}"
    ):
        bnfix.fold(residual(K, leaky(0.3)))
    monkeypatch.setattr(
        proven, "verify", lambda *a, **o: type("_", (), {"notes": ("not checked",)})
    )
    with pytest.raises(AssertionError):
        assert_predict_is_kept(residual(K, leaky(0.3)))


def wrong_already(K):
    """A convolution with a bias and no BN in the way, so that TensorFlow merges it at once."""
    inputs = K.Input((6, 7, 8))
    z = K.layers.Conv2D(8, 3, padding="same", bias_initializer="ones")(inputs)
    y = K.layers.LeakyReLU(0.3)(K.layers.Add()([inputs, z]))
    y = K.layers.BatchNormalization()(K.layers.Conv2D(3, 1)(y))
    model = K.Model(inputs, y)
    zoo.randomise_batch_norms(model, 0)
    return model


@FUSED
def test_what_was_wrong_before_is_folded_and_told(K):
    _, report = assert_predict_is_kept(wrong_already(K))
    assert not report.declined
    told = [note for note in report.notes if "before as after" in note]
    assert bool(told) == ONEDNN, report.notes


@FUSED
def test_check_says_that_compiled_code_is_off_and_not_call(K):
    if not ONEDNN:
        pytest.skip("TensorFlow with oneDNN, which computes it wrongly, is not here")
    model = wrong_already(K)
    x = np.random.default_rng(0).normal(size=(8, 6, 7, 8)).astype("f")
    (found,) = bnfix.check(model, x).findings
    assert found.cause == "miscompiled"
    assert "call" not in found.entry_point
    assert {"predict", "tf.function"} == set(found.entry_point.split(", "))
    assert miscompiled.SWITCH in found.fix


def along_another_axis(K, *, first=False, activation="relu", axis=None):
    """A BN with its axis left as it was where the data format was changed, or the reverse."""
    form, shape = ("channels_first", (3, 5, 4)) if first else ("channels_last", (5, 4, 3))
    inputs = K.Input(shape)
    z = K.layers.Conv2D(4, 3, padding="same", use_bias=False, data_format=form)(inputs)
    z = K.layers.BatchNormalization(axis=axis or (-1 if first else 1))(z)
    model = K.Model(inputs, K.layers.Activation(activation)(z))
    zoo.randomise_batch_norms(model, 0)
    return model


def faults(model):
    x = np.random.default_rng(0).normal(size=(8, *model.input.shape[1:])).astype("f")
    return bnfix.check(model, x).faults


@pytest.mark.both
@pytest.mark.parametrize("first", [False, True])
def test_an_axis_that_compiled_code_loses_is_told(K, dialect, first):
    zoo.tensorflow()
    assert not faults(along_another_axis(K, first=first, axis=1 if first else 3))
    told = faults(along_another_axis(K, first=first))
    # In float64, which would be the judge, processors have no convolution with channels first.
    cause = "entry_points_disagree" if first else "miscompiled"
    assert [fault.cause for fault in told] == ([cause] if dialect == "tf_keras" else [])
    assert all(miscompiled.SWITCH in fault.fix for fault in told)


#: In a process of its own, for what was switched is not as before when it is switched back.
SWITCHED = f"""
import tensorflow as tf
{miscompiled.SWITCH}
import zoo, test_miscompiled as here
for K in map(zoo.keras_module, zoo.DIALECTS):
    for model in here.all_that_is_listed(K):
        assert not here.faults(model), (K.__name__, model.to_json())
"""


def all_that_is_listed(K):
    yield from (residual(K, activation, bias=True) for activation in (leaky(0.3), mish))
    yield from (along_another_axis(K, first=first) for first in (False, True))


@FUSED
def test_what_bnfix_says_to_run_mends_all_that_is_listed():
    zoo.tensorflow()
    command = [sys.executable, "-c", SWITCHED]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


# --- the list ------------------------------------------------------------------------------------


def producers(K):
    L = K.layers
    same = {"padding": "same"}
    return {
        "Conv1D": ((7, 8), lambda b: L.Conv1D(8, 3, use_bias=b, **same)),
        "Conv2D": ((6, 7, 8), lambda b: L.Conv2D(8, 3, use_bias=b, **same)),
        "Conv2D 1x1": ((6, 7, 8), lambda b: L.Conv2D(8, 1, use_bias=b)),
        "Conv2D first": (
            (8, 6, 7),
            lambda b: L.Conv2D(8, 3, use_bias=b, data_format="channels_first", **same),
        ),
        "Conv3D": ((4, 5, 6, 8), lambda b: L.Conv3D(8, 3, use_bias=b, **same)),
        "grouped": ((6, 7, 8), lambda b: L.Conv2D(8, 3, groups=2, use_bias=b, **same)),
        "depthwise": ((6, 7, 8), lambda b: L.DepthwiseConv2D(3, use_bias=b, **same)),
        "separable": ((6, 7, 8), lambda b: L.SeparableConv2D(8, 3, use_bias=b, **same)),
        "transposed": ((6, 7, 8), lambda b: L.Conv2DTranspose(8, 3, use_bias=b, **same)),
        "Dense": ((8,), lambda b: L.Dense(8, use_bias=b)),
        "Dense of steps": ((5, 8), lambda b: L.Dense(8, use_bias=b)),
    }


def activations(K):
    L = K.layers
    names = ("relu", "elu", "selu", "gelu", "swish", "hard_sigmoid", "mish", "tanh", "sigmoid")
    return {
        **{name: (lambda name=name: L.Activation(name)) for name in (*names, "softplus")},
        "gelu tanh": lambda: L.Activation(lambda x: K.activations.gelu(x, approximate=True)),
        "hard_swish": lambda: L.Activation(
            lambda x: x * K.activations.relu(x + 3, max_value=6) / 6
        ),
        "relu6": lambda: L.ReLU(6.0),
        "relu slope 0.3": lambda: L.ReLU(negative_slope=0.3),
        **{f"leaky {slope}": (lambda s=slope: L.LeakyReLU(s)) for slope in (0.01, 0.1, 0.2, 0.3)},
    }


JOINS = {
    "none": lambda L, y, z: z,
    "Add": lambda L, y, z: L.Add()([y, z]),
    "Add, swapped": lambda L, y, z: L.Add()([z, y]),
    "two Adds": lambda L, y, z: L.Add()([L.Add()([y, z]), y]),
}


def is_listed(model):
    """Whether the list says that compiled code of `model` is wrong."""
    reading = Reading(Subject.of(model))
    return any(
        any(miscompiled.merged(reading.graph, call.outputs[0], reading.options))
        for call in reading.graph
        if miscompiled.is_merged(call, reading.options) and reading.linear(call).bias is not None
    )


@pytest.mark.long
def test_the_list_holds_everything_that_a_sweep_finds(K):
    """Convolutions x bias x joins x activations, compiled against uncompiled in float64."""
    tf = zoo.tensorflow()
    r, table, missing = np.random.default_rng(0), [], []
    combinations = itertools.product(producers(K).items(), (False, True), JOINS, activations(K))
    for (name, (shape, make)), bias, join, activation in combinations:
        inputs = K.Input(shape)
        joined = JOINS[join](K.layers, inputs, make(bias)(inputs))
        model = K.Model(inputs, activations(K)[activation]()(joined))
        model.set_weights([0.3 * r.normal(size=w.shape) for w in model.get_weights()])
        x = r.normal(size=(2, *shape)).astype("f")
        right = in_float64(model, x)
        try:
            got = np.asarray(tf.function(model, autograph=False)(x))
            off = float(np.abs(got - right).max() / np.abs(right).max())
        except tf.errors.OpError:
            off = np.inf
        if off > 1e-4:
            table.append((name, "bias" if bias else "", join, activation, f"{off:.2g}"))
            if not is_listed(model):
                missing.append(table[-1])
    for row in table:
        print(" | ".join(row))  # noqa: T201  # the table is what the sweep is for
    assert not missing, missing
    assert bool(table) == ONEDNN


def normalized(K, activation):
    """A Conv2D without a bias, BN, an activation, and something that reads it."""
    inputs = K.Input((6, 7, 8))
    z = K.layers.BatchNormalization()(K.layers.Conv2D(8, 3, use_bias=False)(inputs))
    model = K.Model(inputs, K.layers.Dense(3)(K.layers.Flatten()(activation()(z))))
    zoo.randomise_batch_norms(model, 0)
    return model


def runs_compiled(model, x):
    tf = zoo.tensorflow()
    try:
        tf.function(model, autograph=False)(x)
    except tf.errors.UnimplementedError:
        return False
    return True


def test_what_compiled_code_cannot_run_runs_when_it_is_folded(K, dialect):
    x = np.random.default_rng(0).normal(size=(2, 6, 7, 8)).astype("f")
    model = normalized(K, activations(K)["tanh"])
    listed = ONEDNN and "tanh" in miscompiled.RAISING_BEHIND_NORM[dialect]
    assert runs_compiled(model, x) == (not listed)
    folded = bnfix.fold(model)
    assert runs_compiled(folded, x)
    np.testing.assert_allclose(folded.predict(x, verbose=0), np.asarray(model(x)), atol=1e-4)


@pytest.mark.long
def test_the_list_holds_every_activation_that_raises_behind_a_norm(K, dialect):
    x = np.zeros((2, 6, 7, 8), "f")
    raising = {n for n, make in activations(K).items() if not runs_compiled(normalized(K, make), x)}
    assert raising == (set(miscompiled.RAISING_BEHIND_NORM[dialect]) if ONEDNN else set())


@pytest.mark.long
def test_the_list_holds_every_axis_that_is_lost(K, dialect):
    tf = zoo.tensorflow()
    lost = set()
    images = {name: each for name, each in producers(K).items() if len(each[0]) == 3}
    for (name, (shape, make)), bias, axis in itertools.product(
        images.items(), (False, True), (1, 2, 3)
    ):
        inputs = K.Input(shape)
        z = K.layers.BatchNormalization(axis=axis)(make(bias)(inputs))
        model = K.Model(inputs, K.layers.ReLU()(z))
        zoo.randomise_batch_norms(model, 0)
        x = np.random.default_rng(0).normal(size=(2, *shape)).astype("f")
        right = np.asarray(model(x, training=False))
        if np.abs(np.asarray(tf.function(model)(x)) - right).max() > 1e-4 * np.abs(right).max():
            lost.add((name, bias, axis))
    last = {(name, False, 1) for name in ("Conv2D", "Conv2D 1x1", "separable")}
    assert lost == ({*last, ("Conv2D first", False, 3)} if dialect == "tf_keras" else set())


def in_float64(model, x):
    from bnfix.adapters.rebuilding import rebuild
    from bnfix.graph.edit import Edit
    from bnfix.operations.reference import call_by_call, uncompiled

    reading = Reading(Subject.of(model))
    try:
        twin = Reading(Subject(reading.adapter, rebuild(reading, Edit(), dtype="float64").model))
    except bnfix.BnfixError:  # a function without a name has no configuration
        return call_by_call(reading, x, frozenset())[0]
    try:
        return uncompiled(twin, x)[0]
    except reading.adapter.run_errors:  # channels first, which a CPU takes in float32 only
        return uncompiled(reading, x)[0]
