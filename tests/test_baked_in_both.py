"""`training=True` in the graph of a model and in the code of its layers, at the same time.

Keras 3 overrules the first in `predict` and obeys the second, so what the model answers is neither
what its calls say nor what they say without it.
"""

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters import overruling


def images(rows=6):
    return np.random.default_rng(0).normal(2, 3, size=(rows, 6, 6, 3)).astype("float32")


def block(K, name, inner=None):
    """A layer whose code calls its BatchNormalization, and `inner`, in training mode."""

    class Block(K.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense, self.bn = K.layers.Dense(3), K.layers.BatchNormalization(name="bn")
            self.inner = inner

        def call(self, x):
            y = self.bn(self.dense(x), training=True)
            return y if self.inner is None else self.inner(y)

    return Block(name=name)


def baked(K, name):
    """A Functional model with `training=True` in its graph."""
    inputs = K.Input((6, 6, 3))
    y = K.layers.BatchNormalization(name="bn")(K.layers.Dense(3)(inputs), training=True)
    return K.Model(inputs, K.layers.ReLU()(y), name=name)


def before(K):
    inputs = K.Input((6, 6, 3))
    return K.Model(inputs, block(K, "block")(baked(K, "graph")(inputs)))


def behind(K):
    inputs = K.Input((6, 6, 3))
    y = block(K, "block")(inputs)
    y = K.layers.BatchNormalization(name="last")(K.layers.Dense(3)(y), training=True)
    return K.Model(inputs, y)


def within(K):
    inputs = K.Input((6, 6, 3))
    return K.Model(inputs, block(K, "block", inner=baked(K, "graph"))(inputs))


def subclassed(K):
    class Whole(K.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.graph, self.block = baked(K, "graph"), block(K, "block")

        def call(self, x, training=None):
            return self.block(self.graph(x, training=training))

    model = Whole()
    model(images())
    return model


KINDS = {kind.__name__: kind for kind in (before, behind, within, subclassed)}


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_it_is_stripped_and_stays_away_in_the_file(K, kind, tmp_path):
    model = KINDS[kind](K)
    zoo.randomise_batch_norms(model, 0)
    x = images()
    stripped, report = bnfix.strip_training(model, x=x, return_report=True)
    assert len(report.changed) == 2, str(report)
    bnfix.save(stripped, tmp_path / "stripped.keras")
    loaded = bnfix.load(tmp_path / "stripped.keras")
    assert bnfix.check(loaded, x).ok
    wanted = ref.inferred(stripped, x[:1])
    ref.assert_close(ref.inferred(loaded, x[:1]), wanted, 1e-5)
    ref.assert_close(ref.numbers(loaded.predict(x, verbose=0)), ref.inferred(stripped, x), 1e-5)


@pytest.mark.every(2)
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_repaired_without_an_end_to_its_training(K, kind):
    model = KINDS[kind](K)
    zoo.randomise_batch_norms(model, 0)
    repaired, report = bnfix.repair(model, images(40), return_report=True)
    assert report.ok, str(report)
    assert all(layer.trainable for layer in zoo.batch_norms(repaired)), str(report)


def test_a_proof_that_takes_calls_at_their_word_would_be_seen(monkeypatch):
    model = before(zoo.keras_module("keras3"))
    zoo.randomise_batch_norms(model, 0)
    monkeypatch.setattr(overruling, "overruled", lambda reading: frozenset())
    with pytest.raises(bnfix.VerificationError, match="computes something else"):
        bnfix.strip_training(model, x=images())


# --- what is said of it --------------------------------------------------------------------------


def said(K, made):
    """What `diagnose` says of each BN that is called with a `training=`, by path."""
    symptoms = bnfix.diagnose(made).symptoms
    told = (s for s in symptoms if str(s.cause).startswith("baked"))
    return {path: symptom for symptom in told for path in symptom.paths}


def test_what_is_written_in_code_is_told_to_hold_in_predict(K, dialect):
    found = said(K, behind(K))
    assert "predict normalizes" in found["block/bn"].detail
    overruled = "model(x), compiled calls" in found["last"].detail
    assert overruled == (dialect == "keras3")


def asks_for_inference(K):
    class Calm(K.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.bn = K.layers.BatchNormalization(name="bn")

        def call(self, x):
            return self.bn(x, training=False)

    inputs = K.Input((4,))
    return K.Model(inputs, K.layers.Dense(2)(Calm(name="calm")(inputs)))


@pytest.mark.both
def test_training_false_in_code_holds_in_fit_and_is_a_note(K):
    model = asks_for_inference(K)
    model.compile("sgd", "mse")
    (norm,) = zoo.batch_norms(model)
    before = ref.statistics(norm)
    rows = np.random.default_rng(0).normal(2, 3, size=(16, 4)).astype("float32")
    model.fit(rows, rows[:, :2], verbose=0)
    np.testing.assert_array_equal(ref.statistics(norm), before)
    found = said(K, model)["calm/bn"]
    assert found.severity == "note"
    assert "fit leaves its statistics as they are" in found.detail
