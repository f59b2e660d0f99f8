"""What is JAX's own: compiled calls that change no model, but return what should become of it."""

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters.choose import adapter_of

pytestmark = pytest.mark.skipif(zoo.BACKEND != "jax", reason="is for JAX: set KERAS_BACKEND=jax")

HERE = Path(__file__).parent
ROWS = np.random.default_rng(0).normal(3, 2, (8, 6)).astype("float32")


@pytest.fixture
def K():
    return zoo.keras_module("keras3")


def baked(K):
    K.utils.set_random_seed(0)
    inputs = K.Input((6,))
    x = K.layers.Dense(4)(inputs)
    x = K.layers.BatchNormalization(name="norm")(x, training=True)
    return K.Model(inputs, K.layers.Dense(2)(x))


def changed(report):
    """The entry points that change weights, each with the layers of these."""
    return {one.entry_point: one.changed for one in report.measurements if one.changed}


def test_the_state_that_a_compiled_call_returns_is_what_it_changes(K):
    import jax

    model = baked(K)
    before = ref.weights_of(model)
    trained, rest = (
        [v.value for v in held]
        for held in (model.trainable_variables, model.non_trainable_variables)
    )
    _, left = jax.jit(model.stateless_call)(trained, rest, ROWS)
    assert any(not np.array_equal(one, other) for one, other in zip(rest, left, strict=True))
    ref.assert_same_weights(model, before)
    assert changed(bnfix.check(model, ROWS)) == {"call": ("norm",), "jax.jit": ("norm",)}
    ref.assert_same_weights(model, before)


def test_the_law_rejects_a_compiled_call_whose_state_is_lost(K, monkeypatch):
    import jax

    def stateless(backend, model):
        def run(x):
            states = model.trainable_variables, model.non_trainable_variables
            return called(*([v.value for v in held] for held in states), x)[0]

        called = jax.jit(model.stateless_call)
        return {backend.compiler: run}

    model = baked(K)
    monkeypatch.setattr(type(adapter_of(model).backend), "compiled_calls", stateless)
    assert "jax.jit" not in changed(bnfix.check(model, ROWS))


@pytest.mark.parametrize("option", [{"run_eagerly": True}, {"jit_compile": False}])
def test_a_model_that_is_not_to_be_compiled_is_not(K, option):
    model = baked(K)
    model.compile(**option)
    report = bnfix.check(model, ROWS)
    assert [one.entry_point for one in report.measurements] == ["predict", "call"]


def test_code_that_runs_uncompiled_only_is_told_how_to(K):
    class ByValue(K.layers.Layer):
        def call(self, x):
            return x if float(K.ops.sum(x)) else x + 1

        def compute_output_spec(self, x):
            return K.KerasTensor(x.shape, x.dtype)

    inputs = K.Input((6,))
    model = K.Model(inputs, K.layers.Dense(2)(ByValue()(inputs)))
    before = ref.weights_of(model)
    with pytest.raises(bnfix.ModelError, match=r"predict: .*Uncompiled it runs.*jit_compile=False"):
        bnfix.check(model, ROWS)
    ref.assert_same_weights(model, before)  # though Keras loses them when `predict` fails
    model.compile(run_eagerly=True)
    assert bnfix.check(model, ROWS).ok


def test_nothing_is_said_of_tensorflow(K):
    model = baked(K)
    said = [str(bnfix.check(model, ROWS)), str(bnfix.diagnose(model, ROWS, verbose=0))]
    said.append(str(bnfix.fold(model, return_report=True)[1]))
    said.append(str(bnfix.freeze(model, return_report=True)[1]))
    assert not any(word in text for text in said for word in ("tf.", "TensorFlow", "TF_"))
    assert "jax.jit(model.stateless_call)" in said[-1]


# --- training ------------------------------------------------------------------------------------


def counted(K, **options):
    """A network, and the lengths of the batches on which its code ran."""
    runs = []

    class Counted(K.layers.Layer):
        def call(self, x):
            runs.append(x.shape[0])
            return x

    K.utils.clear_session()  # so that names are the same each time
    K.utils.set_random_seed(0)
    inputs = K.Input((6,))
    x = Counted(name="counted")(K.layers.Dense(4)(inputs))
    x = K.layers.ReLU()(K.layers.BatchNormalization(name="first")(x))
    x = K.layers.BatchNormalization(name="second")(K.layers.Dropout(0.5)(K.layers.Dense(4)(x)))
    model = K.Model(inputs, K.layers.Dense(2)(x))
    model.compile("sgd", "mse", **options)
    runs.clear()
    return model, runs


def test_training_is_checked_in_compiled_code_as_fit_runs_it(K):
    model, runs = counted(K)
    before = ref.weights_of(model)
    compiled = bnfix.check(model, ROWS, training=True)
    assert runs == [8, 1, 8]  # a program for all rows, one for one, and one that tells of layers
    ref.assert_same_weights(model, before)
    model, runs = counted(K, run_eagerly=True)
    uncompiled = bnfix.check(model, ROWS, training=True)
    assert len(runs) > 3
    found = [[(f.path, f.cause) for f in one.findings] for one in (compiled, uncompiled)]
    assert found[0] == found[1] != []
    for one, other in zip(compiled.layers, uncompiled.layers, strict=True):
        assert one.path == other.path
        assert one.gap.difference == pytest.approx(other.gap.difference, rel=1e-4, abs=1e-6)


def test_the_law_rejects_operations_that_are_compiled_one_by_one(K, monkeypatch):
    model, runs = counted(K)
    backend = type(adapter_of(model).backend)
    monkeypatch.setattr(backend, "trained", super(backend, adapter_of(model).backend).trained)
    bnfix.check(model, ROWS, training=True)
    assert runs != [8, 1, 8]


def test_layers_of_code_that_goes_by_values_are_watched_uncompiled(K):
    class ByValue(K.layers.Layer):
        def call(self, x):
            return x - K.ops.mean(x, 0) if float(K.ops.sum(x)) else x

        def compute_output_spec(self, x):
            return K.KerasTensor(x.shape, x.dtype)

    inputs = K.Input((6,))
    model = K.Model(inputs, ByValue(name="by_value")(K.layers.Dense(4)(inputs)))
    model.compile(run_eagerly=True)
    assert bnfix.check(model, ROWS, training=True).culprit == "by_value"


# --- compiled code and what is written to afterwards ---------------------------------------------


def watched_by_its_loss(K):
    """Statistics far off, and more batches than compiling takes to pay."""
    K.utils.set_random_seed(0)
    inputs = K.Input((6,))
    x = K.layers.BatchNormalization(name="norm")(K.layers.Dense(4)(inputs))
    model = K.Model(inputs, K.layers.Dense(1)(x))
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(3, 2, (256, 6)).astype("float32")
    y = K.ops.convert_to_numpy(model(x, training=True))
    model.get_layer("norm").moving_mean.assign(np.full(4, 50.0, "f"))
    return model, (x, y)


def losses(model, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bnfix.BnfixWarning)
        _, report = bnfix.recalibrate(model, data, batch_size=8, verbose=0, return_report=True)
    return report.verdict.before, report.verdict.after


def test_losses_are_those_before_and_after_however_many_batches_there_are(K):
    before, after = losses(*watched_by_its_loss(K))
    assert after < 0.1 * before


def test_the_law_rejects_statistics_that_became_constants(K, monkeypatch):
    model, data = watched_by_its_loss(K)
    backend = type(adapter_of(model).backend)
    compiled = backend.compiled

    def reading_nothing(self, fn, how):
        return compiled(self, fn, replace(how, reads=()))

    monkeypatch.setattr(backend, "compiled", reading_nothing)
    before, after = losses(model, data)
    assert after == before


@pytest.mark.parametrize(
    ("device", "precision", "digits"),
    [
        ("cpu", None, "float32"),
        ("gpu", None, "tensorfloat32"),
        ("gpu", "tensorfloat32", "tensorfloat32"),
        ("gpu", "highest", "float32"),
        ("gpu", "float32", "float32"),
        ("tpu", None, "bfloat16"),
    ],
)
def test_device_and_setting_say_how_products_are_rounded(K, monkeypatch, device, precision, digits):
    import jax

    monkeypatch.setattr(jax, "default_backend", lambda: device)
    with jax.default_matmul_precision(precision):
        assert adapter_of(baked(K)).backend.product_dtype == digits


@pytest.mark.parametrize("kind", ["data", "model"])
def test_a_model_on_several_devices_is_checked_recalibrated_and_folded(kind):
    told = subprocess.run(
        [sys.executable, HERE / "sharded_run.py", kind], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr[-2000:]
    wanted = ["check: second", "stripped: True", "labels: True", "folded: 2", "trained: 2"]
    assert told.stdout.splitlines() == wanted


def test_without_tensorflow_a_note_says_what_an_export_takes(K, monkeypatch):
    from bnfix.adapters.backends import jax as room

    monkeypatch.setattr(room, "find_spec", lambda name: None)
    report = bnfix.check(bnfix.freeze(baked(K)), ROWS, export=True)
    assert report.ok
    assert any("takes TensorFlow" in note for note in report.notes), report.notes
