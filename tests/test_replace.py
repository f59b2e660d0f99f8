"""replace: whatever the user makes, in BN's place."""

import numpy as np
import pytest
import references as ref
import zoo
from test_group_norm import images, small

import bnfix
from bnfix.adapters.choose import adapter_of


def normalizing_by_rows(K):
    return lambda spec: K.layers.LayerNormalization(axis=spec.axis, epsilon=spec.epsilon)


def test_the_factory_is_told_everything_about_each_norm(K):
    model = small(K)
    seen = []
    same, report = bnfix.replace(model, seen.append, return_report=True)
    assert same is model
    assert not report.changed
    assert [outcome.detail for outcome in report.outcomes] == ["left as it is"] * 3
    spec, norm = seen[1], model.get_layer("bn24")
    assert (spec.path, spec.shape, spec.axis, spec.channels) == ("bn24", (None, 4, 4, 24), 3, 24)
    assert (spec.epsilon, spec.momentum) == (norm.epsilon, norm.momentum)
    assert (spec.trainable, spec.training, spec.dtype) == (True, False, "float32")
    assert spec.config == norm.get_config()
    for ours, theirs in (
        (spec.gamma, norm.gamma),
        (spec.beta, norm.beta),
        (spec.moving_mean, norm.moving_mean),
        (spec.moving_variance, norm.moving_variance),
    ):
        np.testing.assert_array_equal(ours, np.asarray(theirs, np.float64))
    assert spec.to_dict()["path"] == "bn24"


def test_layers_take_the_name_the_place_and_gamma_and_beta(K, tmp_path):
    model, x = small(K), images(4)
    model.get_layer("bn32").trainable = False
    before = ref.weights_of(model)
    new, report = bnfix.replace(model, normalizing_by_rows(K), return_report=True)
    ref.assert_same_weights(model, before)
    assert [outcome.detail for outcome in report.changed] == ["replaced by LayerNormalization"] * 3
    for name, trainable in (("bn16", True), ("bn24", True), ("bn32", False)):
        made, norm = new.get_layer(name), model.get_layer(name)
        assert type(made).__name__ == "LayerNormalization"
        assert made.trainable == trainable
        np.testing.assert_array_equal(*ref.numbers([made.gamma, norm.gamma]))
        np.testing.assert_array_equal(*ref.numbers([made.beta, norm.beta]))
    assert [layer.name for layer in new.layers] == [layer.name for layer in model.layers]
    new.save(str(tmp_path / "model.keras"))
    loaded = K.models.load_model(str(tmp_path / "model.keras"), compile=False)
    np.testing.assert_array_equal(ref.inferred(loaded, x), ref.inferred(new, x))
    assert bnfix.check(new, x, training=True).ok


def test_another_batch_norm_takes_the_statistics_too_and_computes_the_same(K):
    """So that momentum or axis can be changed: gamma, beta and both statistics are carried over."""
    model, x = small(K), images(4)
    new = bnfix.replace(
        model,
        lambda spec: K.layers.BatchNormalization.from_config({**spec.config, "momentum": 0.9}),
    )
    assert new.get_layer("bn16").momentum == 0.9
    np.testing.assert_array_equal(ref.inferred(new, x), ref.inferred(model, x))


def test_a_layer_that_is_built_keeps_its_weights(K):
    model = small(K)

    def built(spec):
        layer = K.layers.LayerNormalization()
        layer.build(spec.shape)
        return layer

    new = bnfix.replace(model, built, layers="bn16")
    np.testing.assert_array_equal(new.get_layer("bn16").gamma, np.ones(16))
    assert type(new.get_layer("bn24")).__name__ == "BatchNormalization"


def test_composite_layers_and_layers_without_weights(K):
    model, x = small(K), images(4)

    def pair(spec):
        layers = [K.layers.Activation("linear"), K.layers.LayerNormalization()]
        return K.Sequential(layers) if spec.path == "bn16" else K.layers.Activation("tanh")

    new = bnfix.replace(model, pair)
    assert new(x, training=False).shape == (4, 5)
    assert new.get_layer("bn16").trainable


def test_training_baked_into_a_call_goes_to_a_layer_that_takes_it(K):
    inputs = K.Input((4, 8))
    model = K.Model(inputs, K.layers.BatchNormalization(name="bn")(inputs, training=True))
    told = []
    new = bnfix.replace(model, lambda spec: told.append(spec) or K.layers.Dropout(0.5))
    assert told[0].training
    x = np.ones((2, 4, 8), "float32")
    dropped = np.asarray(new(x))
    assert np.any(dropped == 0), "training=True is still written into the call"
    assert np.all(np.asarray(bnfix.strip_training(new)(x, training=False)) == 1)


def test_nested_and_shared_norms_are_replaced_once_each(dialect):
    K = zoo.keras_module(dialect)
    for name in ("three_deep", "nested_called_twice", "shared_bn", "sequential_of_models"):
        entry = next(entry for entry in zoo.MODELS if entry.name == name)
        model = zoo.build(entry, dialect)
        asked = []

        def factory(spec, asked=asked):
            asked.append(spec.path)
            return K.layers.LayerNormalization(axis=spec.axis)

        new = bnfix.replace(model, factory)
        assert asked == [path for path, _ in adapter_of(model).batch_norms(model)]
        assert not zoo.batch_norms(new)
        x = zoo.inputs_for(model, rows=2)
        assert ref.inferred(new, x)


# --- refusals -----------------------------------------------------------------------------------


def test_what_is_no_layer_or_in_use_is_refused(K):
    model = small(K)
    once = K.layers.LayerNormalization()
    used = K.layers.LayerNormalization()
    used(K.Input((4,)))
    other = zoo.keras_module("tf_keras" if K.__name__ == "keras" else "keras3")
    for factory, seen in (
        (lambda spec: 7, "int is not a layer"),
        (lambda spec: other.layers.LayerNormalization(), "is not a layer of"),
        (lambda spec: once, "was returned for another BatchNormalization already"),
        (lambda spec: used, "is called elsewhere already"),
        (lambda spec: model.get_layer(spec.path), "is called elsewhere already"),
    ):
        with pytest.raises(bnfix.OptionError, match=seen) as refusal:
            bnfix.replace(model, factory)
        assert "Nothing was changed" in str(refusal.value)
        assert refusal.value.path.startswith("bn")


def test_a_layer_that_changes_the_shape_is_refused(K):
    model = small(K)
    with pytest.raises(bnfix.UnsupportedModelError, match="has to keep the shape") as refusal:
        bnfix.replace(model, lambda spec: K.layers.Dense(7))
    assert refusal.value.path == "bn16"
    sequential = K.Sequential(
        [K.Input((4,)), K.layers.BatchNormalization(name="bn"), K.layers.Dense(2)]
    )
    with pytest.raises(bnfix.UnsupportedModelError, match=r"keep.* shape"):
        bnfix.replace(sequential, lambda spec: K.layers.Dense(7))


def test_a_layer_that_does_not_take_the_inputs_is_refused(K):
    with pytest.raises(bnfix.UnsupportedModelError, match="cannot be built with the layers"):
        bnfix.replace(small(K), lambda spec: K.layers.LSTM(3))


def test_errors_of_the_factory_are_its_own(K):
    def fails(spec):
        raise ZeroDivisionError(spec.path)

    with pytest.raises(ZeroDivisionError, match="bn16"):
        bnfix.replace(small(K), fails)
