"""strip_training and freeze: inference no longer depends on how a call was written."""

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters.choose import adapter_of
from bnfix.operations import freeze as freezing

BY_NAME = {entry.name: entry for entry in zoo.MODELS}
BAKED = zoo.cases(having={"baked"}, lacking={"subclassed"})


def calm(K):
    """A model with two convs and BNs, without anything baked."""
    return build(K, {})


def build(K, call):
    L = K.layers
    K.utils.set_random_seed(0)
    inputs = K.Input((8, 8, 3))
    x = L.ReLU()(L.BatchNormalization(name="first")(L.Conv2D(4, 3, name="a")(inputs), **call))
    x = L.BatchNormalization(name="second")(L.Conv2D(4, 3, name="b")(x), **call)
    model = K.Model(inputs, L.GlobalAveragePooling2D()(x))
    zoo.randomise_batch_norms(model, 0)
    return model


def images(rows=4):
    return np.random.default_rng(0).normal(size=(rows, 8, 8, 3)).astype("float32")


@pytest.mark.parametrize(("entry", "dialect"), BAKED)
def test_nothing_is_baked_afterwards_and_the_source_keeps_it(entry, dialect):
    model = zoo.build(entry, dialect)
    stripped, report = bnfix.strip_training(model, return_report=True)
    assert report.changed
    assert all(call.training is None for call in bnfix.graph_of(stripped))
    assert any(call.training is not None for call in bnfix.graph_of(model))
    again, second = bnfix.strip_training(stripped, return_report=True)
    assert again is stripped
    assert not second.changed


def test_a_stripped_model_computes_what_it_would_have_without_baking(K):
    x, baked = images(), build(K, {"training": True})
    wanted = calm(K)
    stripped = bnfix.strip_training(baked)
    before = ref.weights_of(stripped)
    for call in (stripped.predict, stripped):
        ref.assert_close(ref.numbers(call(x)), ref.inferred(wanted, x), 1e-6)
    ref.assert_same_weights(stripped, before)


def test_only_the_selected_calls_are_stripped(K):
    stripped, report = bnfix.strip_training(
        build(K, {"training": True}), layers=["first"], return_report=True
    )
    found = {call.name: call.training for call in bnfix.graph_of(stripped)}
    assert (found["first"], found["second"]) == (None, True)
    assert [outcome.path for outcome in report.declined] == ["second"]


def test_removing_training_false_is_pointed_out(K):
    _, report = bnfix.strip_training(build(K, {"training": False}), return_report=True)
    assert "bnfix.freeze" in report.notes[0]


def test_a_path_that_is_not_there_is_refused(K):
    model = build(K, {"training": True})
    with pytest.raises(bnfix.BnfixError, match=r"third.*first"):
        bnfix.strip_training(model, layers=["third"])
    with pytest.raises(bnfix.BnfixError, match=r"third.*first"):
        bnfix.freeze(model, layers=["third"])


# --- freeze --------------------------------------------------------------------------------------

WITH_BN = zoo.cases(
    having={"bn"},
    lacking={"stochastic"},
    where=lambda entry, dialect: (
        entry.name
        in ("nested_called_twice", "three_deep", "composite_layers", "time_distributed_bn")
        or bool({"subclassed", "baked"} & entry.tags_in(dialect))
    ),
)


@pytest.mark.parametrize(("entry", "dialect"), WITH_BN)
def test_a_frozen_model_keeps_its_statistics_even_in_training_mode(entry, dialect):
    model = zoo.build(entry, dialect)
    x = zoo.inputs_for(model, rows=4)
    assert bnfix.freeze(model) is model
    before = ref.weights_of(model)
    in_training = ref.numbers(model(x, training=True))
    ref.assert_same_weights(model, before)
    if not entry.tags_in(dialect) & {"stochastic"}:
        ref.assert_close(in_training, ref.inferred(model, x), 1e-5)
    assert not bnfix.freeze(model, return_report=True)[1].changed


def test_freezing_drops_functions_that_remember_the_old_flag(K):
    x, model = images(8), calm(K)
    model.compile("sgd", "mse")
    model.fit(x, np.zeros((8, 4)), verbose=0)
    bnfix.freeze(model)
    model.compile("sgd", "mse")
    before = [ref.statistics(layer) for layer in zoo.batch_norms(model)]
    model.fit(x, np.zeros((8, 4)), verbose=0)
    for layer, old in zip(zoo.batch_norms(model), before, strict=True):
        np.testing.assert_array_equal(ref.statistics(layer), old)


def flags(model):
    return dict(getattr(model, "_compiled_trainable_state", None) or {})


@pytest.mark.both
@pytest.mark.parametrize("fitted", [False, True])
def test_the_next_fit_obeys_without_compiling_again(K, fitted):
    x, model = images(8), calm(K)
    model.compile("sgd", "mse")
    if fitted:
        model.fit(x, np.zeros((8, 4)), verbose=0)
    bnfix.freeze(model, layers="first")
    first, second = zoo.batch_norms(model)
    before, others = ref.statistics(first), ref.statistics(second)
    model.fit(x, np.zeros((8, 4)), verbose=0)
    model.train_on_batch(x, np.zeros((8, 4)))
    np.testing.assert_array_equal(ref.statistics(first), before)
    assert not np.array_equal(ref.statistics(second), others)
    assert not first.trainable
    assert second.trainable
    assert not any(s.cause == "stale_compile" for s in bnfix.diagnose(model).symptoms)


def test_what_was_noted_at_compile_is_put_back_where_freezing_fails(monkeypatch):
    K = zoo.keras_module("tf_keras")
    model = calm(K)
    model.compile("sgd", "mse")
    before = flags(model)

    def fail(*given):
        raise MemoryError

    monkeypatch.setattr(freezing, "_notes", fail)
    with pytest.raises(MemoryError):
        bnfix.freeze(model)
    assert flags(model) == before
    assert all(before.values())


def test_a_flag_set_after_compile_is_stale_in_tf_keras_before_any_fit():
    K = zoo.keras_module("tf_keras")
    x, model = images(8), calm(K)
    model.compile("sgd", "mse")
    (first, *_) = zoo.batch_norms(model)
    first.trainable = False
    (symptom,) = [s for s in bnfix.diagnose(model).symptoms if s.cause == "stale_compile"]
    assert symptom.paths == ("first",)
    before = ref.statistics(first)
    model.fit(x, np.zeros((8, 4)), verbose=0)
    assert not np.array_equal(ref.statistics(first), before)


def test_what_a_model_is_told_later_thaws_it_as_the_page_on_limits_says(K, dialect):
    """In Keras 3 on TensorFlow a flag that the model has already is not handed down."""
    model = bnfix.freeze(calm(K))
    model.trainable = True
    handed_down = dialect == "tf_keras" or zoo.BACKEND != "tensorflow"
    assert [layer.trainable for layer in zoo.batch_norms(model)] == [handed_down] * 2
    model.trainable = False
    model.trainable = True
    assert all(layer.trainable for layer in zoo.batch_norms(model))


def test_frozen_survives_saving(K, tmp_path):
    model = bnfix.freeze(calm(K))
    for suffix in (".keras", ".h5"):
        file = str(tmp_path / f"model{suffix}")
        model.save(file)
        loaded = K.models.load_model(file)
        assert [layer.trainable for layer in zoo.batch_norms(loaded)] == [False, False]


def test_only_the_selected_layers_are_frozen(K):
    model = calm(K)
    bnfix.freeze(model, layers=lambda path: path == "second")
    assert [layer.trainable for layer in zoo.batch_norms(model)] == [True, False]
    assert model.get_layer("a").trainable


@pytest.mark.parametrize("operation", [bnfix.freeze, bnfix.strip_training, bnfix.fold])
def test_what_is_not_a_model_is_refused(operation):
    with pytest.raises(bnfix.UnsupportedModelError, match=r"got builtins\.dict"):
        operation({})


def test_a_model_without_bn_is_left_alone_and_said_so(K):
    model = K.Sequential([K.Input((3,)), K.layers.Dense(2)])
    assert "no BatchNormalization" in bnfix.freeze(model, return_report=True)[1].notes[0]
    same, report = bnfix.strip_training(model, return_report=True)
    assert same is model
    assert "no call has training=" in str(report)


def test_everything_is_as_before_after_a_stripped_model_was_used(K):
    model = build(K, {"training": True})
    before = ref.weights_of(model)
    with adapter_of(model).preserved(model):
        bnfix.strip_training(model).predict(images(), verbose=0)
    ref.assert_same_weights(model, before)
