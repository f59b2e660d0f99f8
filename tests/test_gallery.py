"""Every fault of the gallery is found under its name, at its layer, and mended by what is said."""

from dataclasses import replace

import faults
import faults_found
import faults_reported
import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters.choose import adapter_of
from bnfix.checks import stale
from bnfix.diagnosis import measured
from bnfix.numerics import convergence
from bnfix.operations import diagnose as diagnosing
from bnfix.operations.mending import Mending

assert all((faults_reported, faults_found))  # their faults are in the gallery

#: What mends each cause, unless the fault says otherwise.
VERBS = {
    "batch_statistics": "strip_training",
    "randomness": "strip_training",
    "training_by_default": "strip_augmentation",
    "stale_function": "make_predict_function",
    "baked_training": "strip_training",
    "baked_inference": "freeze",
    "stale_compile": "freeze",
    "exchanged": "exchange",
    "huge_gain": "raise_epsilon",
}

#: The same layer code in both Kerases; in the second one under `-m long`, for time's sake.
ALIKE = {
    "softmax_over_the_batch",
    "unit_normalization_over_the_batch",
    "attention_over_the_batch",
    "noise_at_inference",
    "nan_in_one_bn_as_check_sees_it",
    "five_steps_as_the_model_alone_tells",
    "tiny_variance_with_a_tiny_epsilon",
    "wrong_axis",
    "scaled_by_the_largest_of_the_batch",
    "the_deviation_of_the_batch_as_a_feature",
    "rows_torn_apart_by_a_reshape",
    "training_given_as_a_number",
    "noise_that_is_always_on",
    "a_variance_that_overflowed",
    "mean_and_variance_exchanged",
    "inverse_deviations_for_variances",
    "one_row_that_was_not_standardized",
    "the_momentum_of_another_framework",
    "columns_scaled_to_unit_length",
    "spectrograms_normalized_by_their_batch",
    "the_sampling_of_an_autoencoder",
    "a_variance_in_half_precision",
    "a_momentum_above_one",
    "batches_of_two",
    "two_rows_learned_by_heart",
    "a_momentum_for_millions_of_steps",
    "statistics_of_one_layer_not_loaded",
    "infinite_variance_as_check_sees_it",
    "a_discriminator_frozen_for_good",
    "course_resnet",
}
CASES = [
    pytest.param(
        fault,
        dialect,
        id=f"{dialect}-{fault}",
        marks=[
            pytest.mark.since(keras3=fault.since),
            *([pytest.mark.long] if fault.name in ALIKE and dialect == "keras3" else []),
        ],
    )
    for fault in faults.GALLERY
    for dialect in sorted(fault.dialects)
]


def found(fault, made):
    """`(path, cause)` of all that is not fine, worst first, and what is said about the first."""
    if fault.by == "check":
        report = bnfix.check(made.model, made.x)
        wrong = [finding for finding in report.findings if finding.cause.is_fault]
        return [(finding.path, finding.cause) for finding in wrong], wrong
    report = bnfix.diagnose(made.model, made.data)
    least = "note" if fault.severity == "note" else "warning"
    wrong = [s for s in report.symptoms if s.severity in ("fault", "warning", least)]
    wrong = [s for s in wrong if s.severity != "note" or s.cause == fault.cause]
    return [(path, symptom.cause) for symptom in wrong for path in symptom.paths], wrong


def run(code, made):
    names = {"bnfix": bnfix, "model": made.model, "x": made.x, "y": made.y}
    exec(compile(code, "fix", "exec"), names)
    return replace(made, model=names["model"])


@pytest.mark.every(9)
@pytest.mark.parametrize(("fault", "dialect"), CASES)
def test_the_layer_and_the_cause_are_named_and_the_call_that_is_suggested_mends_it(fault, dialect):
    made = fault.build(zoo.keras_module(dialect))
    if fault.cause == "stale_compile" and zoo.BACKEND == "torch":
        pytest.skip("on PyTorch fit goes by the flags of now: test_retraining.py")
    before = ref.weights_of(made.model)
    where, said = found(fault, made)
    assert where, "nothing was found"
    assert where[0] == (fault.path, fault.cause), where
    ref.assert_same_weights(made.model, before)
    assert said[0].severity == fault.severity
    assert {cause for _, cause in where} == {fault.cause}, "one fault, one cause"
    if not fault.mends:
        assert said[0].code is None
        assert said[0].fix.startswith("no call mends it") or fault.severity == "note"
        return
    assert said[0].remedy.verb == (fault.verb or VERBS.get(fault.cause, "recalibrate"))
    again, _ = found(fault, run(said[0].code, made))
    assert (fault.path, fault.cause) not in again


def test_the_gallery_is_large_enough():
    names = [fault.name for fault in faults.GALLERY]
    assert len(set(names)) == len(names) >= 80
    reports = [fault.report for fault in faults.GALLERY if fault.report]
    assert len(set(reports)) == len(reports) >= 20


# --- repair follows the list --------------------------------------------------------------------

REPAIRABLE = (
    ("mean_and_beta_exchanged", "tf_keras"),
    ("five_steps_on_one_batch", "keras3"),
    ("nan_in_one_bn", "tf_keras"),
)


@pytest.mark.parametrize(("name", "dialect"), REPAIRABLE)
def test_repair_does_what_diagnose_suggests_and_says_why(name, dialect):
    K = zoo.keras_module(dialect)
    fault = next(fault for fault in faults.GALLERY if fault.name == name)
    made = fault.build(K)
    x = faults.task()[0] if made.x is None else made.x
    suggested = bnfix.diagnose(made.model, x).symptoms[0]
    repaired, story = bnfix.repair(made.model, x, return_report=True)
    assert suggested.detail[:40] in "\n".join(story.steps)
    assert story.ok
    again = bnfix.diagnose(repaired, x)
    assert again.ok, str(again)


def test_repair_leaves_a_network_that_agrees_with_itself_alone(K):
    made = faults.trained_in_inference_mode(K)
    before = ref.weights_of(made.model)
    same, story = bnfix.repair(made.model, made.data, return_report=True)
    assert same is made.model
    ref.assert_same_weights(same, before)
    assert "there is nothing to repair" in story.steps[0]


def test_without_labels_repair_does_not_guess_about_statistics_never_updated(K):
    made = faults.statistics_lost(K)
    before = ref.weights_of(made.model)
    same, story = bnfix.repair(made.model, made.x, return_report=True)
    ref.assert_same_weights(same, before)
    assert "never_updated" in story.left[0]
    assert "bnfix.diagnose(model, (x, y))" in story.left[0]


def test_a_healthy_network_has_nothing_to_repair(K):
    made = faults.healthy(K)
    before = ref.weights_of(made.model)
    same, story = bnfix.repair(made.model, made.data, return_report=True)
    assert same is made.model
    assert story.recalibration is None
    assert story.left == ()
    ref.assert_same_weights(same, before)


# --- how it reads -------------------------------------------------------------------------------


def test_the_diagnosis_reads_well_and_becomes_plain_data(K):
    made = faults.five_steps_on_one_batch(K)
    report = bnfix.diagnose(made.model, made.x)
    text = str(report)
    assert text.startswith("diagnose: 1 fault, 0 warnings in 2 BatchNormalizations")
    assert "as after 5 updates" in text
    assert "fix: model = bnfix.recalibrate(model, x)" in text
    assert report.layers[0].updates == pytest.approx(5, abs=0.5)
    assert report.to_dict()["symptoms"][0]["cause"] == "unconverged"
    assert not report.ok
    assert "nothing wrong with 2" in str(bnfix.diagnose(faults.healthy(K).model))


def test_labels_show_what_recalibration_would_do_to_the_loss(K):
    made = faults.statistics_lost(K)
    losses = bnfix.diagnose(made.model, made.data).losses
    assert losses.of_data < losses.stored / 2


def test_what_cannot_be_measured_is_said(K):
    inputs = K.Input((8, 8, 3))
    axis = [1, 3] if K.__name__ == "tf_keras" else -1  # Keras 3 normalizes over one axis only
    model = K.Model(inputs, K.layers.BatchNormalization(axis=axis)(inputs))
    report = bnfix.diagnose(model, faults.rows(40, 8, 8, 3))
    assert (report.layers == ()) == (axis != -1)
    assert any("were not compared" in note for note in report.notes) == (axis != -1)


def test_models_without_a_graph_are_compared_with_their_data_too(K):
    made = faults.subclassed_in_training_mode(K)
    report = bnfix.diagnose(made.model, made.x)
    assert [layer.path for layer in report.layers] == ["norm"]


@pytest.mark.parametrize(
    ("ds", "message"), [(np.zeros((0, 6)), "empty"), (np.zeros((4, 5)), "got shape")]
)
def test_bad_data_is_refused(K, ds, message):
    with pytest.raises(bnfix.DataError, match=message):
        bnfix.diagnose(faults.network(K), ds)


def test_a_model_without_bn_and_one_that_is_not_built(K):
    L = K.layers
    assert bnfix.diagnose(K.Sequential([K.Input((3,)), L.Dense(2)]), np.zeros((40, 3))).ok
    with pytest.raises(bnfix.UnsupportedModelError, match="never seen"):
        bnfix.diagnose(K.Sequential([L.BatchNormalization()]))


# --- shown able to fail -------------------------------------------------------------------------


def test_the_gallery_rejects_a_diagnosis_that_takes_any_distance_for_too_few_updates(monkeypatch):
    monkeypatch.setattr(convergence, "ENOUGH", -np.inf)
    monkeypatch.setattr(measured, "_is_common", lambda pairs, fit: True)
    fault = next(f for f in faults.GALLERY if f.name == "other_preprocessing")
    with pytest.raises(AssertionError):
        test_the_layer_and_the_cause_are_named_and_the_call_that_is_suggested_mends_it(
            fault, "keras3"
        )


def test_labels_that_no_loss_can_use_are_said_to_be_unused(K):
    model = K.Sequential([K.Input((4,)), K.layers.Dense(3), K.layers.BatchNormalization()])
    x, y = np.random.default_rng(0).normal(size=(64, 4)).astype("float32"), np.zeros((64, 3))
    assert "the labels were not used" in str(bnfix.diagnose(model, (x, y)))
    assert "not used" not in str(bnfix.diagnose(model, x))
    model.compile("sgd", "mse")
    report = bnfix.diagnose(model, (x, y))
    assert "not used" not in str(report)
    assert report.losses is not None


# --- repair, and what it leaves to others ---------------------------------------------------------


def built(name, dialect):
    fault = next(fault for fault in faults.GALLERY if fault.name == name)
    return fault.build(zoo.keras_module(dialect))


def trains(model):
    return [bool(layer.trainable) for layer in zoo.batch_norms(model)]


def test_nothing_is_frozen_for_augmentation_and_predict_is_fine(dialect):
    made = built("augmentation_as_the_guides_write_it", dialect)
    same, story = bnfix.repair(made.model, faults_reported.images(64), return_report=True)
    assert all(trains(same))
    assert story.after.ok
    assert not any("froze" in step for step in story.steps)
    (told,) = story.after.findings
    assert (told.cause, told.severity) == ("training_by_default", "note")
    assert "model(x, training=False)" in told.fix
    bnfix.assert_batch_invariant(same, made.x)


@pytest.mark.since(keras3="3.10")
def test_a_model_in_which_predict_augments_is_repaired_without_freezing():
    made = built("a_model_whose_call_takes_no_training", "keras3")
    repaired, story = bnfix.repair(made.model, faults_reported.images(64), return_report=True)
    assert "wrote training=False into 1 calls, the first at flip" in story.steps[0]
    assert story.ok
    assert all(trains(repaired))


def test_where_freezing_is_all_there_is_the_end_of_training_is_said(dialect):
    made = built("a_subclass_that_always_trains", dialect)
    repaired, story = bnfix.repair(made.model, faults.rows(64, 4), return_report=True)
    assert "Nothing else mends that; it ends the training of norm" in story.steps[0]
    assert trains(repaired) == [False]
    assert story.after.ok


def test_what_training_on_single_rows_leaves_is_mended_in_part_and_said_so():
    made = built("one_step_at_a_time_with_labels", "tf_keras")
    symptom = bnfix.diagnose(made.model, made.data).symptoms[0]
    assert "this mends a part" in symptom.fix
    assert "have had no gradient" in symptom.fix


@pytest.mark.skipif(not zoo.COMPILED, reason=f"predict is not compiled on {zoo.BACKEND}")
def test_a_predict_that_knows_of_no_change_is_compiled_again_by_repair(dialect):
    made = built("an_activation_taken_away_after_predict", dialect)
    same, story = bnfix.repair(made.model, faults.rows(64, 4), copy=False, return_report=True)
    assert same is made.model
    assert story.steps[0].startswith("had predict compiled again")
    assert story.after.ok
    np.testing.assert_allclose(
        same.predict(made.x, verbose=0), *ref.numbers(same(made.x)), atol=1e-5
    )


def test_the_gallery_rejects_a_check_that_trusts_compiled_functions(monkeypatch, dialect):
    monkeypatch.setattr(stale, "_differ", lambda before, now: False)
    fault = next(f for f in faults.GALLERY if f.name == "frozen_after_the_first_predict")
    with pytest.raises(AssertionError):
        test_the_layer_and_the_cause_are_named_and_the_call_that_is_suggested_mends_it(
            fault, dialect
        )


#: Causes that a freeze would do away with as well.
FREEZABLE = {"batch_statistics", "baked_training", "baked_inference", "training_by_default"}


def trainable(model):
    norms = adapter_of(model).batch_norms(model)
    return {path for path, layer in norms if layer.trainable}


def repaired(fault, dialect):
    """Trainable paths that `repair` has frozen, and its report."""
    K = zoo.keras_module(dialect)
    made = fault.build(K)
    shape = (64, *(made.x.shape if made.x is not None else made.model.input_shape)[1:])
    flags = trainable(made.model)
    model, story = bnfix.repair(made.model, faults.rows(*shape), return_report=True)
    return sorted(flags - trainable(model)), story


def assert_training_goes_on(fault, dialect):
    """`repair` stops the training of nothing, unless nothing else mends, and then says so."""
    ended, story = repaired(fault, dialect)
    if ended:
        assert (fault.verb or VERBS[fault.cause]) == "freeze", ended
        said = "\n".join(story.steps)
        assert "Nothing else mends that" in said
        assert all(f"ends the training of {path}" in said for path in ended), said


@pytest.mark.every(7)
@pytest.mark.parametrize(
    ("fault", "dialect"), [case for case in CASES if case.values[0].cause in FREEZABLE]
)
def test_repair_stops_no_training_unless_nothing_else_mends_and_then_says_so(fault, dialect):
    assert_training_goes_on(fault, dialect)


@pytest.mark.parametrize("name", ["training_given_as_a_number", "a_subclass_that_always_trains"])
def test_the_gallery_rejects_a_repair_that_freezes_whatever_it_meets(monkeypatch, name):
    """And one that does not say so."""

    def freeze(self, found, remedy, why=""):
        self.model = bnfix.freeze(self.model)
        self.did("froze it")

    monkeypatch.setattr(Mending, "_strip", freeze)
    monkeypatch.setattr(Mending, "_freeze", freeze)
    fault = next(f for f in faults.GALLERY if f.name == name)
    with pytest.raises(AssertionError):
        assert_training_goes_on(fault, "tf_keras")


def behind_a_frozen_base(K, norm=False):
    """A head, with a BN or without, trained on other data than its base, which stays as it is."""
    made = faults.healthy(K)
    base = K.Model(made.model.input, made.model.get_layer("bn2").output, name="base")
    base.trainable = False
    inputs = K.Input((6,))
    x = K.layers.ReLU()(base(inputs, training=False))
    x = K.layers.BatchNormalization(name="of_head", momentum=0.9)(x) if norm else x
    model = K.Model(inputs, K.layers.Dense(3, activation="softmax")(x))
    model.compile(K.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
    x = made.x * 0.4 + 1
    model.fit(x, made.y, epochs=5, batch_size=64, verbose=0)
    return faults.Made(model, x, made.y)


def test_a_frozen_base_is_not_recalibrated_without_labels(K):
    made = behind_a_frozen_base(K)
    before = ref.weights_of(made.model)
    (symptom,) = bnfix.diagnose(made.model, made.x).symptoms[:1]
    assert (symptom.cause, symptom.paths) == ("shifted", ("base/bn1",))
    assert "labels decide" in symptom.detail
    assert symptom.remedy.verb == "ask_labels"
    same, _ = bnfix.repair(made.model, made.x, return_report=True)
    ref.assert_same_weights(same, before)
    report = bnfix.diagnose(made.model, (made.x, made.y))
    assert report.ok
    assert report.losses.worse


def of_a_head_in_step(K):
    """Statistics of the base and of the head, before a `repair` without labels and after it."""
    made = behind_a_frozen_base(K, norm=True)
    made.model.get_layer("of_head").moving_mean.assign(np.full(16, 9.0, "float32"))
    base, head = (made.model.get_layer(name) for name in ("base", "of_head"))
    before = [ref.statistics(base.get_layer("bn1")), ref.statistics(head)]
    same = bnfix.repair(made.model, made.x, copy=False, verbose=0)
    assert same is made.model
    return before, [ref.statistics(base.get_layer("bn1")), ref.statistics(head)]


def test_nor_is_it_where_statistics_behind_it_have_to_be(K):
    (base, head), (base_now, head_now) = of_a_head_in_step(K)
    np.testing.assert_array_equal(base_now, base)
    assert not np.allclose(head_now, head)


def shifted_in(made):
    symptoms = bnfix.diagnose(made.model, made.x, verbose=0).symptoms
    return [path for s in symptoms if s.cause == "shifted" for path in s.paths]


def test_what_is_behind_it_is_measured_behind_it_as_it_is(K):
    assert shifted_in(behind_a_frozen_base(K, norm=True)) == ["base/bn1"]


def test_that_law_sees_layers_measured_behind_what_the_base_will_not_be(K, monkeypatch):
    monkeypatch.setattr(diagnosing, "behind_what_stays", lambda facts, of_data: ())
    assert shifted_in(behind_a_frozen_base(K, norm=True)) != ["base/bn1"]


def test_that_law_sees_a_remedy_for_all_layers(K, monkeypatch):
    monkeypatch.setattr(measured, "RECALIBRATE_SOME", measured.RECALIBRATE)
    (base, _), (base_now, _) = of_a_head_in_step(K)
    assert not np.allclose(base_now, base)


def test_nor_where_a_baked_training_is_stripped_behind_it(K):
    made = behind_a_frozen_base(K)
    inputs = K.Input((6,))
    x = K.layers.BatchNormalization(name="mode")(
        made.model.get_layer("base")(inputs), training=True
    )
    model = K.Model(inputs, K.layers.Dense(3)(x))
    base = model.get_layer("base").get_layer("bn1")
    before = ref.statistics(base)
    repaired, report = bnfix.repair(model, made.x, return_report=True, verbose=0)
    assert report.outcome == "partly repaired", str(report)
    left = bnfix.diagnose(repaired, made.x, verbose=0).symptoms
    assert {path for s in left if s.severity != "note" for path in s.paths} == {"base/bn1"}
    np.testing.assert_array_equal(
        ref.statistics(repaired.get_layer("base").get_layer("bn1")), before
    )


def test_the_learning_phase_of_the_session_is_told_from_what_a_layer_does():
    K = zoo.keras_module("tf_keras")
    inputs = K.Input((4,))
    model = K.Model(inputs, K.layers.Dense(2)(K.layers.BatchNormalization(name="bn")(inputs)))
    K.backend.set_learning_phase(1)
    try:
        report = bnfix.check(model, faults.rows(8, 4))
    finally:
        K.backend.clear_session()  # with a phase of 0 no layer would augment in later tests
    assert report.ok
    (told,) = report.findings
    assert (told.path, told.cause) == (model.name, "training_by_default")
    assert "set_learning_phase(0)" in told.fix
    assert "training_by_default" not in str(bnfix.check(model, faults.rows(8, 4)))


def test_the_gallery_rejects_a_check_that_knows_no_defaults(monkeypatch):
    from bnfix.adapters.models import Models

    monkeypatch.setattr(Models, "default_training", lambda self, layer: None)
    fault = next(f for f in faults.GALLERY if f.name == "resizing_in_the_model")
    with pytest.raises(AssertionError):
        test_the_layer_and_the_cause_are_named_and_the_call_that_is_suggested_mends_it(
            fault, "keras3"
        )
