"""Statistics that `jax.jit(model)` has lost: every verb says so, and what brings them back does."""

import numpy as np
import pytest
import zoo

import bnfix
from bnfix.adapters import choose

pytestmark = pytest.mark.skipif(zoo.BACKEND != "jax", reason="is for JAX: set KERAS_BACKEND=jax")

ROWS = np.random.default_rng(0).normal(3, 2, (16, 6)).astype("float32")
VERBS = {
    "check": lambda model: bnfix.check(model, ROWS),
    "diagnose": lambda model: bnfix.diagnose(model, ROWS, verbose=0),
    "statistics": lambda model: bnfix.statistics(model, ROWS),
    "recalibrate": lambda model: bnfix.recalibrate(model, ROWS, min_count=1),
    "freeze": bnfix.freeze,
    "fold": bnfix.fold,
    "strip_training": bnfix.strip_training,
    "to_group_norm": lambda model: bnfix.to_group_norm(model, ROWS),
    "repair": lambda model: bnfix.repair(model, ROWS),
}


@pytest.fixture(scope="module")
def lost():
    """A model after `jax.jit(model)`."""
    import jax

    K = zoo.keras_module("keras3")
    inputs = K.Input((6,))
    norm = K.layers.BatchNormalization(name="norm")(K.layers.Dense(4)(inputs), training=True)
    model = K.Model(inputs, K.layers.Dense(2)(norm))
    jax.jit(model)(ROWS)
    return model


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_what_was_lost(lost, verb):
    with pytest.raises(bnfix.ModelError, match=r"norm/moving_mean, norm/moving_var.*recalibrate"):
        VERBS[verb](lost)


def test_without_a_look_at_what_is_stored_an_error_of_jax_comes_through(lost, monkeypatch):
    monkeypatch.setattr(choose, "check_values", lambda *_: None)
    with pytest.raises(TypeError) as raised:
        bnfix.diagnose(lost, verbose=0)
    assert not isinstance(raised.value, bnfix.BnfixError)


def test_what_the_message_advises_brings_the_statistics_back(lost):
    norm = lost.get_layer("norm")
    norm.moving_mean.assign(np.zeros(4))
    norm.moving_variance.assign(np.ones(4))
    bnfix.recalibrate(lost, ROWS, min_count=1)
    seen = np.asarray(lost.layers[1](ROWS))
    np.testing.assert_allclose(norm.moving_mean.numpy(), seen.mean(0), rtol=1e-5, atol=1e-5)
