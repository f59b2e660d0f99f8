"""The demo tells the truth: trained well, predicts badly, repaired."""

import dataclasses

import numpy as np
import pytest
import zoo

from bnfix import demo


@pytest.fixture(scope="module")
def told():
    return demo.run(epochs=2, seed=0, keras="keras")


def test_after_two_epochs_predict_is_far_below_what_training_saw(told):
    as_trained = told.steps[0]
    assert told.fit_accuracy > 0.9
    assert as_trained.training_accuracy < told.fit_accuracy - 0.30
    assert as_trained.test_accuracy < told.fit_accuracy - 0.30


def test_recalibrated_the_model_does_what_batch_statistics_can_do(told):
    recalibrated = told.steps[1]
    assert recalibrated.test_accuracy == pytest.approx(told.batch_accuracy, abs=0.02)


def test_folding_changes_no_answer_and_leaves_no_batch_norm(told):
    _, recalibrated, folded = told.steps
    assert (recalibrated.batch_norms, folded.batch_norms) == (9, 0)
    assert folded.training_accuracy == recalibrated.training_accuracy
    assert folded.test_accuracy == recalibrated.test_accuracy


def test_the_model_is_batch_invariant_throughout_so_statistics_are_what_was_wrong(told):
    assert [step.check.ok for step in told.steps] == [True, True, True]


def test_every_layer_is_reported_with_a_drift_that_is_a_number(told):
    layers = told.recalibration.layers
    assert len(layers) == 9
    assert np.isfinite([(layer.mean_shift, layer.variance_ratio) for layer in layers]).all()
    # With momentum 0.99, 88 steps leave 0.99**88 = 41 % of the initial 0 and 1.
    assert max(layer.mean_shift for layer in layers) > 0.1


def test_the_result_cannot_be_changed(told):
    with pytest.raises(dataclasses.FrozenInstanceError):
        told.fit_accuracy = 1.0


def test_the_table_and_the_picture_are_made_of_the_result(told, tmp_path, capsys):
    out = tmp_path / "picture.png"
    demo.show(told, out)
    shown = capsys.readouterr().out
    for step in told.steps:
        assert step.name in shown
        assert f"{step.test_accuracy:.1%}" in shown
    assert "batch_normalization" in shown
    assert_picture(out)


def assert_picture(path):
    """A PNG that decodes, is large enough to read, and is not blank."""
    from matplotlib import image

    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = image.imread(path)
    assert pixels.shape[0] >= 400
    assert pixels.shape[1] >= 800
    assert pixels[..., :3].std() > 0.05


def test_the_network_is_the_same_in_both_kerases(dialect):
    model = demo.digits_resnet(zoo.keras_module(dialect))
    assert model.output_shape == (None, 10)
    assert len(zoo.batch_norms(model)) == 9
    assert all(layer.momentum == 0.99 for layer in zoo.batch_norms(model))


def test_the_network_is_the_one_that_recalibration_is_tested_on(K):
    from zoo.courses import digits_resnet

    def shapes(model):
        return [tuple(weight.shape) for weight in model.weights]

    assert shapes(demo.digits_resnet(K)) == shapes(digits_resnet(K))
