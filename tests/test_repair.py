"""repair, and the two real cases: a baked `training=True`, and statistics that never converged."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import references as ref
import zoo
from zoo.courses import course_resnet50, digits_resnet

import bnfix
from bnfix.operations.repair_report import RepairOutcome

AGREE = 1e-5


def probabilities(call, x):
    return np.asarray(call(x))


def entry_points(model):
    compiled = zoo.tensorflow().function(model)
    predict = lambda x: model.predict(x, verbose=0)  # noqa: E731
    return {"predict": predict, "call": model, "tf.function": compiled}


@pytest.fixture(scope="module")
def signs(shared):
    with h5py.File(shared / "data" / "test_signs.h5") as file:
        images = file["test_set_x"][:].astype("float32") / 255
        digits = file["test_set_y"][:].reshape(-1)
    assert images.shape == (120, 64, 64, 3)
    return images, digits


@pytest.mark.parametrize("small", [True, pytest.param(False, marks=pytest.mark.long)])
def test_the_course_resnet_is_diagnosed_and_repaired_on_real_images(
    K, dialect, small, signs, tmp_path
):
    signs, digits = signs
    K.utils.set_random_seed(1)
    file = str(tmp_path / "model.h5")
    model = course_resnet50(K, small=small)
    model.compile(K.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    model.fit(signs, digits, batch_size=30, epochs=2, verbose=0)
    model.save(file)
    model = K.models.load_model(file)
    weights = ref.weights_of(model)

    wrong = {"tf_keras": {"predict"}, "keras3": {"call", "tf.function"}}[dialect]
    for name, call in entry_points(model).items():
        if name in wrong:
            apart = probabilities(call, signs[0:1])[0] - probabilities(call, signs[0:2])[0]
            # Of a probability; how much more, decides what two epochs came to with this TensorFlow.
            assert np.max(np.abs(apart)) > 0.01, name
    for weight, value in zip(model.weights, weights, strict=True):
        weight.assign(value)  # the calls above have overwritten them

    report = bnfix.check(model, signs)
    assert report.findings[0].cause == "batch_statistics"
    assert report.culprit == "bn2a_branch2a"
    ref.assert_same_weights(model, weights)

    repaired, story = bnfix.repair(model, signs, return_report=True)
    assert story
    assert story.after.ok
    ref.assert_same_weights(model, weights)
    before = ref.weights_of(repaired)
    answers = {}
    for name, call in entry_points(repaired).items():
        answers[name] = probabilities(call, signs[0:2])
        for number in (1, 2, 32):
            got = probabilities(call, signs[:number])[0]
            np.testing.assert_allclose(got, answers[name][0], rtol=0, atol=AGREE, err_msg=name)
        np.testing.assert_allclose(answers[name], answers["predict"], rtol=0, atol=AGREE)
    ref.assert_same_weights(repaired, before)


@pytest.fixture(scope="module", params=zoo.DIALECTS)
def trained_on_digits(request):
    """After two epochs: K, model, training images and digits, and what fit showed."""
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    images, digits = datasets.load_digits(return_X_y=True)
    x, y = (images / 16).reshape(-1, 8, 8, 1).astype("float32")[:1400], digits[:1400]
    K = zoo.keras_module(request.param)
    K.utils.set_random_seed(0)
    model = digits_resnet(K)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    shown = model.fit(x, y, batch_size=32, epochs=2, verbose=0).history["accuracy"][-1]
    return K, model, x, y, shown


def accuracy(outputs, digits):
    outputs = outputs.detach() if hasattr(outputs, "detach") else outputs
    return float(np.mean(np.argmax(np.asarray(outputs), axis=-1) == digits))


@pytest.mark.every(2)
@pytest.mark.parametrize("batch_size", [1, 32])
def test_recalibration_brings_predict_to_what_batch_statistics_reach(trained_on_digits, batch_size):
    _, model, x, y, shown = trained_on_digits
    values = model.get_weights()
    by_batch = accuracy(model(x, training=True), y)
    model.set_weights(values)
    assert accuracy(model.predict(x, verbose=0), y) < shown - 0.3
    bnfix.recalibrate(model, x, batch_size=batch_size)
    predicted = accuracy(model.predict(x, verbose=0), y)
    model.set_weights(values)
    assert predicted > by_batch - 0.02


def build(K, call=None):
    L = K.layers
    K.utils.set_random_seed(0)
    inputs = K.Input((6, 6, 2))
    x = L.BatchNormalization(name="first")(L.Conv2D(3, 3)(inputs), **(call or {}))
    x = L.Dropout(0.3)(x)
    x = L.BatchNormalization(name="second")(L.Conv2D(3, 3)(x))
    model = K.Model(inputs, L.GlobalAveragePooling2D()(x))
    zoo.randomise_batch_norms(model, 0)
    return model


def images(rows=40):
    return np.random.default_rng(0).normal(size=(rows, 6, 6, 2)).astype("float32")


def test_repair_tells_its_story_and_folds_on_request(K):
    model = build(K, {"training": True})
    repaired, story = bnfix.repair(model, images(), fold=True, return_report=True)
    assert "stripped training=True from 1 calls, the first at first" in str(story)
    assert "recalibrated 2 BatchNormalizations on 2 batches" in story.steps[1]
    assert not zoo.batch_norms(repaired)
    assert not story.before.ok
    assert story.ok
    assert len(story.fold.changed) == 2
    assert story.to_dict()["after"]["ok"] is True


def test_repair_gives_the_exact_statistics_of_the_stripped_model(K):
    repaired = bnfix.repair(build(K, {"training": True}), images())
    assert ref.worst_deviation(repaired, images()) < 1e-4


def test_monte_carlo_dropout_is_left_on(K):
    inputs = K.Input((6,))
    x = K.layers.BatchNormalization()(inputs, training=True)
    model = K.Model(inputs, K.layers.Dropout(0.5, name="mc")(x, training=True))
    repaired = bnfix.repair(model, np.random.default_rng(0).normal(size=(40, 6)))
    baked = {call.name: call.training for call in bnfix.graph_of(repaired)}
    assert baked["mc"] is True
    assert list(baked.values()).count(True) == 1


def test_a_model_without_bn_has_nothing_to_repair(K):
    model = K.Sequential([K.Input((3,)), K.layers.Dense(2)])
    same, story = bnfix.repair(
        model, np.random.default_rng(0).normal(size=(9, 3)), return_report=True
    )
    assert same is model
    assert "nothing to repair" in story.steps[0]


def test_a_generator_is_read_once_and_serves_for_everything(K):
    x = images()
    once = ((x[start : start + 8], np.zeros(8)) for start in range(0, 40, 8))
    repaired = bnfix.repair(build(K), once)
    assert ref.worst_deviation(repaired, x) < 1e-4


@pytest.mark.parametrize(
    ("data", "message"),
    [(np.zeros((0, 6, 6, 2)), "empty"), (np.zeros((9, 3)), "got shape"), (None, "no data")],
)
def test_bad_data_is_refused_and_the_model_left_as_it_was(K, data, message):
    model = build(K, {"training": True})
    before = ref.weights_of(model)
    with pytest.raises(bnfix.DataError, match=message):
        bnfix.repair(model, data)
    ref.assert_same_weights(model, before)


# --- the outcome --------------------------------------------------------------------------------


def opaque(K):
    """A BatchNormalization that follows the batch, in a layer that has a weight of its own.

    So its code stays closed.
    """

    class Inner(K.layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.norm = K.layers.BatchNormalization()

        def build(self, shape):
            self.norm.build(shape)
            self.own = self.add_weight(name="own", shape=(1,), initializer="ones")
            self.built = True

        def call(self, x):
            return self.norm(x, training=True) * self.own

    K.utils.set_random_seed(0)
    return K.Sequential([K.Input((6,)), K.layers.Dense(4), Inner(), K.layers.Dense(3)])


def rows(number=64):
    return np.random.default_rng(0).normal(size=(number, 6)).astype("float32")


def noisy(K, **bn):
    """Dropout that is always on, and a BatchNormalization that is called with `bn`."""
    inputs = K.Input((6,))
    x = K.layers.BatchNormalization()(K.layers.Dense(4)(inputs), **bn)
    model = K.Model(inputs, K.layers.Dropout(0.5, name="mc")(x, training=True))
    bnfix.recalibrate(model, rows(), guard=False, verbose=0)
    return model


def outcome_of(model, x, **options):
    _, report = bnfix.repair(model, x, verbose=0, return_report=True, **options)
    assert report.ok == (not report.left)
    assert report.to_dict()["outcome"] == report.outcome
    return report.outcome, report


def test_freezing_alone_is_a_repair_and_the_check_after_it_is_taken_after_it(K):
    model = opaque(K)
    bnfix.recalibrate(model, rows(), guard=False, verbose=0)
    outcome, report = outcome_of(model, rows())
    assert [step.split()[0] for step in report.steps] == ["froze"]
    assert (report.before.ok, report.after.ok) == (False, True)
    assert outcome is RepairOutcome.REPAIRED
    assert str(report).startswith("repair: repaired\n")
    for mutant in (replace(report, after=report.before), replace(report, before=report.after)):
        assert mutant.outcome is not RepairOutcome.REPAIRED


def test_nothing_to_do_is_not_called_a_repair(K):
    model = K.Sequential([K.Input((6,)), K.layers.Dense(4), K.layers.BatchNormalization()])
    bnfix.recalibrate(model, rows(), guard=False, verbose=0)
    outcome, report = outcome_of(model, rows())
    assert outcome is RepairOutcome.NOTHING_TO_DO
    assert str(report).startswith("repair: nothing to do\n")
    outcome, report = outcome_of(model, rows(), fold=True)
    assert len(report.fold.changed) == 1
    assert outcome is RepairOutcome.NOTHING_TO_DO


def test_what_is_left_is_named_and_what_was_mended_is_not_denied(K):
    outcome, report = outcome_of(noisy(K, training=True), rows())
    assert outcome is RepairOutcome.PARTLY
    assert str(report).startswith("repair: partly repaired: randomness left\n")
    assert [sentence.partition(" in ")[0] for sentence in report.left] == ["randomness"]


def test_a_fault_that_nothing_mends_is_not_repaired(K):
    outcome, report = outcome_of(noisy(K), rows())
    assert outcome is RepairOutcome.NOT
    assert str(report).startswith("repair: NOT repaired\n")
    assert not report


def test_a_fault_that_hides_another_is_mended_before_it_and_so_is_the_other(K):
    model = opaque(K)
    bnfix.recalibrate(model, rows(), guard=False, verbose=0)
    inputs = K.Input((6,))
    hiding = K.layers.BatchNormalization(name="hiding")
    whole = K.Model(inputs, model(hiding(inputs)))
    hiding.moving_variance.assign(np.full(6, np.nan))
    outcome, report = outcome_of(whole, rows())
    assert not any(finding.cause == "batch_statistics" for finding in report.before.findings)
    assert outcome is RepairOutcome.REPAIRED, str(report)
