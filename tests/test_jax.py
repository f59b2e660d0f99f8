"""What is JAX's own: compiled calls that change no model, but return what should become of it."""

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters.choose import adapter_of

pytestmark = pytest.mark.skipif(zoo.BACKEND != "jax", reason="is for JAX: set KERAS_BACKEND=jax")

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
