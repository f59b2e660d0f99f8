"""strip_augmentation: `model(x)` is what `predict` is, and in Keras 3 `fit` augments as before."""

import faults_reported
import numpy as np
import pytest
import references as ref
import zoo

import bnfix


def images(number=8):
    return faults_reported.images(number)


def pipeline(K):
    """Augmentation, a layer of one's own with such a default, and a block around one."""
    L = K.layers

    class Scale(L.Layer):
        def call(self, inputs, training=True):
            return inputs * 2.0 if training else inputs

        def compute_output_shape(self, shape):
            return shape

    inputs = K.Input((6, 6, 3))
    x = K.Sequential([L.RandomFlip(name="flip"), L.RandomZoom(0.2, name="zoom")], name="augment")(
        inputs
    )
    x = L.Conv2D(4, 3)(Scale(name="scale")(x))
    x = L.Dropout(0.3)(L.BatchNormalization(name="bn")(x))
    model = K.Model(inputs, L.Dense(2)(L.Flatten()(x)), name="net")
    zoo.randomise_batch_norms(model, 0)
    return model


def test_inputs_to_compare_on_may_be_plain_lists(K):
    stripped = bnfix.strip_augmentation(pipeline(K), x=images(2).tolist())
    assert np.shape(stripped(images(2))) == (2, 2)


def test_calls_are_what_predict_is_and_the_model_given_stays(K):
    model = pipeline(K)
    before = ref.weights_of(model)
    wanted = model.predict(images(), verbose=0)
    stripped, report = bnfix.strip_augmentation(model, return_report=True)
    assert [outcome.path for outcome in report.changed] == ["augment/flip", "augment/zoom", "scale"]
    assert any("augment is now a Functional model" in note for note in report.notes)
    for _ in range(2):
        np.testing.assert_allclose(ref.numbers(stripped(images()))[0], wanted, atol=1e-5)
    ref.assert_same_weights(model, before)
    ref.assert_same_weights(stripped, before)
    assert bnfix.check(stripped, images()).findings == () or bnfix.check(stripped, images()).ok
    again, second = bnfix.strip_augmentation(stripped, return_report=True)
    assert again is stripped
    assert not second.changed


def test_in_keras_3_fit_goes_on_augmenting_and_in_tf_keras_it_is_said_not_to(K):
    stripped, report = bnfix.strip_augmentation(pipeline(K), return_report=True)
    both = [ref.numbers(stripped(images(), training=True))[0] for _ in range(2)]
    said = any("fit does not augment any more" in note for note in report.notes)
    assert said == (K.__name__ == "tf_keras")
    if K.__name__ == "keras":
        bn = stripped.get_layer("bn")
        was = bn.moving_mean.numpy()
        stripped.compile("sgd", "mse")
        stripped.fit(images(), np.zeros((8, 2)), verbose=0)
        assert np.any(bn.moving_mean.numpy() != was), "fit trains, whatever is written"
        assert np.any(both[0] != both[1])


def test_what_is_written_stays_when_training_is_stripped_and_survives_the_file(K, tmp_path):
    made = faults_reported.behind(K, K.layers.RandomFlip(name="flip"))
    stripped = bnfix.strip_augmentation(made.model)
    assert bnfix.strip_training(stripped) is stripped
    bnfix.save(stripped, tmp_path / "model.keras")
    again = bnfix.load(tmp_path / "model.keras")
    wanted = made.model.predict(made.x, verbose=0)
    np.testing.assert_allclose(ref.numbers(again(made.x))[0], wanted, atol=1e-5)


def test_one_of_several_and_one_that_is_none(K):
    model = faults_reported.behind(
        K, K.layers.RandomFlip(name="flip"), K.layers.RandomRotation(0.1, name="turn")
    ).model
    _, report = bnfix.strip_augmentation(model, layers=["turn"], return_report=True)
    assert [outcome.path for outcome in report.changed] == ["turn"]
    with pytest.raises(bnfix.BnfixError, match="conv"):
        bnfix.strip_augmentation(model, layers=["conv"])


def test_a_model_without_such_layers_comes_back_as_it_is(K):
    model = faults_reported.behind(K, K.layers.GaussianNoise(0.1)).model
    same, report = bnfix.strip_augmentation(model, return_report=True)
    assert same is model
    assert "no layer is in training mode by default" in str(report)


@pytest.mark.since(keras3="3.8")
def test_inspect_and_diagnose_tell_of_it_where_it_goes_over(tmp_path):
    K = zoo.keras_module("keras3")
    model = faults_reported.behind(K, K.layers.Resizing(5, 5, name="resize")).model
    model.save(tmp_path / "model.keras")
    report = bnfix.inspect(tmp_path / "model.keras")
    assert report.ok
    assert any("resize is in training mode by default" in note for note in report.notes)
    (told,) = [s for s in bnfix.diagnose(model).symptoms if s.cause == "training_by_default"]
    assert (told.paths, told.severity) == (("resize",), "note")
    bnfix.freeze(model)
    assert not [s for s in bnfix.diagnose(model).symptoms if s.cause == "training_by_default"]
    bnfix.save(bnfix.strip_augmentation(model), tmp_path / "stripped.keras")
    assert not any(
        "by default" in note for note in bnfix.inspect(tmp_path / "stripped.keras").notes
    )
