"""The proof of a changed model: what it runs, what it runs on, and what it must not forgive."""

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters.choose import adapter_of
from bnfix.adapters.reading import Reading
from bnfix.adapters.rebuilding import rebuild
from bnfix.adapters.subject import Subject
from bnfix.graph.edit import Edit
from bnfix.numerics.norm import NormSpec
from bnfix.operations import proven, reference
from bnfix.operations.samples import Domain
from bnfix.operations.trial import Trial
from bnfix.operations.verify import verify


def network(K, dtype=None):
    inputs = K.Input((6, 6, 3))
    x = K.layers.BatchNormalization(dtype=dtype)(K.layers.Conv2D(4, 3, dtype=dtype)(inputs))
    x = K.layers.Activation("relu", dtype=dtype)(x)
    model = K.Model(inputs, K.layers.Dense(5, dtype=dtype)(K.layers.Flatten(dtype=dtype)(x)))
    zoo.randomise_batch_norms(model, 0)
    return model


def copied(model):
    reading = Reading(Subject.of(model))
    return reading, rebuild(reading, Edit()).model


def proof(model, changed, x=None):
    return verify(Reading(Subject.of(model)), Edit(), changed, x, operation="test")


def test_a_copy_is_proven_in_predict_call_and_compiled_code(K):
    model = network(K)
    agreement = proof(model, copied(model)[1])
    assert agreement
    assert agreement.entry_points == ("predict", "call", *zoo.COMPILED)
    assert not agreement.caveats


# --- an answer that is wrong in one way of calling only ------------------------------------------


@pytest.mark.every(2)
@pytest.mark.skipif(not zoo.COMPILED, reason=f"proofs compile nothing on {zoo.BACKEND}")
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16", "float64"])
def test_what_is_lost_when_compiled_only_is_seen(K, dtype, monkeypatch):
    """As TensorFlow loses a slope; in 16 bits a fifth of the scale would pass as rounding."""
    model = network(K, dtype)
    _, changed = copied(model)
    adapter = adapter_of(model)
    right = type(adapter).entry_points

    def entry_points(self, one, **options):
        points = dict(right(self, one))
        if one is changed:
            compiled = points[zoo.COMPILED[0]]
            points[zoo.COMPILED[0]] = lambda x: compiled(x) * 1.2
        return points

    monkeypatch.setattr(type(adapter), "entry_points", entry_points)
    with pytest.raises(bnfix.VerificationError, match=rf"{zoo.COMPILED[0]} is off by 0\.(1|2)"):
        proof(model, changed)


def test_an_entry_point_that_raises_withholds_the_model_unless_it_did_before(K, monkeypatch):
    model = network(K)
    _, changed = copied(model)
    adapter, right = adapter_of(model), type(adapter_of(model)).entry_points

    def failing(*models):
        def fails(x):
            raise ValueError("Fusion is not implemented")

        def entry_points(self, one, **options):
            points = right(self, one, **options)
            return {**points, "predict": fails} if any(one is m for m in models) else points

        return entry_points

    monkeypatch.setattr(type(adapter), "entry_points", failing(changed))
    with pytest.raises(bnfix.VerificationError, match="predict raises ValueError: Fusion is not"):
        proof(model, changed)
    monkeypatch.setattr(type(adapter), "entry_points", failing(model, changed))
    agreement = proof(model, changed)
    assert any("predict raises, as it did before" in remark for remark in agreement.remarks)


# --- 16 bits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("factor", [0.0, 0.9, 1.02])
def test_sixteen_bits_excuse_no_wrong_algebra(K, dtype, factor, monkeypatch):
    """A model of zeros among them; 2 % are less than 16 bits can tell, so float64 has to."""
    right = NormSpec.affine
    monkeypatch.setattr(NormSpec, "affine", lambda norm: tuple(factor * p for p in right(norm)))
    with pytest.raises(bnfix.VerificationError, match=r"differ by .* in float64"):
        bnfix.fold(network(K, dtype))


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_sixteen_bits_do_not_withhold_what_is_right(K, dtype):
    model = network(K, dtype)
    folded, report = bnfix.fold(model, return_report=True)
    assert not zoo.batch_norms(folded)
    assert any("in float64" in note for note in report.notes), report.notes


# --- float64 --------------------------------------------------------------------------------------


def ill_conditioned(K):
    inputs = K.Input((4,))
    dense, norm = K.layers.Dense(5), K.layers.BatchNormalization(epsilon=1e-12)
    model = K.Model(inputs, K.layers.Dense(3)(norm(dense(inputs))))
    dense.bias.assign(np.full(5, 1e4))
    norm.moving_mean.assign(np.full(5, 1e4))
    norm.moving_variance.assign(np.full(5, 1e-2))
    return model


def test_rounding_that_a_network_multiplies_is_no_reason_to_withhold_it(K):
    folded, report = bnfix.fold(ill_conditioned(K), return_report=True)
    assert not zoo.batch_norms(folded)
    assert any("in float64" in note for note in report.notes), report.notes


def test_where_rounding_is_multiplied_wrong_algebra_is_still_seen(K, monkeypatch):
    right = NormSpec.affine

    def a_little_off(norm):
        scale, shift = right(norm)
        return scale * (1 + 1e-5), shift

    monkeypatch.setattr(NormSpec, "affine", a_little_off)
    with pytest.raises(bnfix.VerificationError, match="in float64"):
        bnfix.fold(ill_conditioned(K))


def test_what_an_input_is_declared_as_does_not_loosen_the_proof(K):
    zoo.need_precision("float64")
    inputs = K.Input((4,))  # float32
    x = K.layers.BatchNormalization(dtype="float64")(K.layers.Dense(3, dtype="float64")(inputs))
    model = K.Model(inputs, x)
    _, report = bnfix.fold(model, return_report=True)
    assert any("in float64 (tolerance" in note for note in report.notes), report.notes
    tolerance = float(report.notes[-1].rpartition("tolerance ")[2].rstrip(")"))
    assert tolerance < 1e-12


def cancelling(K):
    """A BN that rounds as its affine map does, and outputs far below the numbers in their sums."""
    zoo.need_precision("float64")
    with ref.in_dtype(K, "float64"):
        inputs, norm = K.Input((4,)), K.layers.BatchNormalization(center=False, scale=False)
        wide, narrow = K.layers.Dense(4, use_bias=False), K.layers.Dense(1, use_bias=False)
        model = K.Model(inputs, narrow(wide(norm(inputs))))
    norm.moving_variance.assign([0.3, 0.7, 1.1, 1.9])
    generator = np.random.default_rng(0)
    nearly = generator.normal(size=(4, 1)) + 1e-4 * generator.normal(size=(4, 4))
    wide.kernel.assign(nearly)
    narrow.kernel.assign([[1.0], [-1.0], [1.0], [-1.0]])
    return model


def test_nor_is_rounding_that_float64_as_its_own_judge_does_not_see(K):
    assert not zoo.batch_norms(bnfix.fold(cancelling(K)))


def test_that_law_refuses_a_judge_who_looks_at_float64_alone(K, monkeypatch):
    monkeypatch.setattr(reference, "rounded", lambda *given: None)
    with pytest.raises(bnfix.VerificationError, match="in float64"):
        bnfix.fold(cancelling(K))


def test_in_float64_too_wrong_algebra_is_still_seen(K, monkeypatch):
    right = NormSpec.affine
    monkeypatch.setattr(
        NormSpec, "affine", lambda norm: (right(norm)[0] * (1 + 1e-8), right(norm)[1])
    )
    with pytest.raises(bnfix.VerificationError, match="in float64"):
        bnfix.fold(cancelling(K))


# --- inputs that excite ---------------------------------------------------------------------------


def test_outputs_that_are_no_numbers_or_do_not_depend_on_the_input_prove_nothing(K):
    model = network(K)
    for spoil in (np.nan, 0.0):
        last = model.layers[-1]
        last.kernel.assign(np.full(last.kernel.shape, spoil))
        _, report = bnfix.fold(model, return_report=True)
        assert any("not proven for" in note and "x=" in note for note in report.notes)


def test_one_dead_output_is_named_and_the_other_one_proven(K):
    inputs = K.Input((4,))
    x = K.layers.BatchNormalization()(K.layers.Dense(3)(inputs))
    dead = K.layers.Dense(2, kernel_initializer="zeros", name="dead")(x)
    model = K.Model(inputs, [K.layers.Dense(2, name="live")(x), dead])
    _, report = bnfix.fold(model, return_report=True)
    (note,) = [note for note in report.notes if "not proven" in note]
    assert "live" not in note


def excited(model):
    reading = Reading(Subject.of(model))
    return Trial.of(reading, None, frozenset())


def followed(K, layer, inputs, *then):
    x = layer(inputs)
    for each in then:
        x = each(x)
    return K.Model(inputs, K.layers.BatchNormalization()(K.layers.Dense(3)(x)))


def test_an_embedding_gets_what_it_can_look_up(K):
    for declared in ("int32", "float32"):
        table = K.layers.Embedding(7, 3, mask_zero=declared == "int32")
        model = followed(K, table, K.Input((5,), dtype=declared), K.layers.Flatten())
        taken = np.asarray(excited(model).inputs)
        assert taken.min() >= 1
        assert taken.max() <= 6


def test_pixels_get_the_range_that_rescaling_brings_to_one(K):
    model = followed(K, K.layers.Rescaling(1 / 255, -0.5), K.Input((4, 4, 3)))
    taken = np.asarray(excited(model).inputs)
    assert taken.std() > 100


def test_a_network_that_is_dead_around_zero_is_tried_further_out(K):
    K.utils.set_random_seed(0)
    far = K.initializers.Constant(-60.0)
    same = K.initializers.Identity()
    dead = K.layers.Dense(3, activation="relu", kernel_initializer=same, bias_initializer=far)
    model = followed(K, dead, K.Input((4,)))
    assert not excited(model).unproven


@pytest.mark.parametrize("length", [5000, 300])
def test_inputs_that_are_too_short_are_made_longer(K, length):
    inputs = K.Input((None, 2))
    x = K.layers.Cropping1D((length, 0))(inputs)
    x = K.layers.BatchNormalization()(K.layers.Conv1D(3, 3)(x))
    model = K.Model(inputs, K.layers.GlobalAveragePooling1D()(x))
    folded, report = bnfix.fold(model, return_report=True)
    assert folded is not model
    assert not any("not proven" in note for note in report.notes), report.notes


def test_a_domain_says_nothing_where_nothing_is_known():
    assert Domain() == Domain(0, None, 0.0, 1.0)


# --- strip_training and replacements -------------------------------------------------------------


def test_strip_training_is_held_against_the_layers_of_the_source(K, monkeypatch):
    """Not against a rebuilt copy, which would be wrong in the same way."""
    inputs = K.Input((6,))
    x = K.layers.BatchNormalization()(K.layers.Dense(4)(inputs), training=True)
    model = K.Model(inputs, K.layers.Dense(2)(x))
    zoo.randomise_batch_norms(model, 0)
    _, report = bnfix.strip_training(model, return_report=True)
    *others, last = ("predict", "call", *zoo.COMPILED)
    assert any(f"{', '.join(others)} and {last} differ by" in note for note in report.notes)
    before = ref.weights_of(model)

    def forgetful(reading, edit):
        made = rebuild(reading, edit)
        made.model.layers[-1].bias.assign([1.0, 2.0])
        return made

    monkeypatch.setattr(proven, "rebuild", forgetful)
    with pytest.raises(bnfix.VerificationError, match="strip_training gave a model"):
        bnfix.strip_training(model)
    ref.assert_same_weights(model, before)


def test_a_wrong_instance_norm_is_withheld(K, monkeypatch):
    from bnfix.adapters import replacing

    inputs = K.Input((8, 8, 3))
    x = K.layers.BatchNormalization()(K.layers.Conv2D(4, 3)(inputs), training=True)
    model = K.Model(inputs, K.layers.Conv2D(2, 1)(x))
    zoo.randomise_batch_norms(model, 0)
    bnfix.to_group_norm(model, groups=-1)
    monkeypatch.setattr(replacing, "_write_affine", lambda layer, gamma, beta: None)
    with pytest.raises(bnfix.VerificationError, match="answers otherwise to single rows"):
        bnfix.to_group_norm(model, groups=-1)


def answers_asked_for(monkeypatch, answers=Trial.answers):
    asked = []

    def counted(trial, model, *args, **options):
        asked.append(model.name)
        return answers(trial, model, *args, **options)

    monkeypatch.setattr(Trial, "answers", counted)
    return asked


def test_what_a_new_model_answers_uncompiled_is_asked_only_where_compiled_code_is_off(
    K, monkeypatch
):
    model, x = network(K), np.random.default_rng(0).normal(size=(8, 6, 6, 3)).astype("float32")
    asked = answers_asked_for(monkeypatch)
    bnfix.to_group_norm(model, x, groups=2, verbose=0)
    assert len(asked) == 1


@pytest.mark.skipif(not zoo.COMPILED, reason=f"proofs compile nothing on {zoo.BACKEND}")
def test_it_is_asked_where_compiled_code_is_off(K, monkeypatch):
    model = network(K)
    adapter = type(adapter_of(model))
    right = adapter.entry_points

    def off(self, one, **options):
        return {**right(self, one, **options), zoo.COMPILED[0]: lambda x: one(x) * 1.2}

    monkeypatch.setattr(adapter, "entry_points", off)
    asked = answers_asked_for(monkeypatch)
    bnfix.to_group_norm(model, groups=2)  # as before, whatever may be wrong there
    assert len(asked) == 3  # all at once, each by itself, and uncompiled


def test_the_proof_leaves_nothing_in_either_model(K):
    model = network(K)
    reading = Reading(Subject.of(model))
    functions = adapter_of(model).compiled_functions(model)
    folded = bnfix.fold(model)
    assert adapter_of(model).compiled_functions(model) == functions == {}
    assert adapter_of(folded).compiled_functions(folded) == {}
    assert len(reading.graph) == len(Reading(Subject.of(model)).graph)


def test_the_law_sees_a_proof_that_runs_no_compiled_code(K, monkeypatch):
    """The mutant: `call` alone, as it once was."""
    adapter = adapter_of(network(K))
    right = type(adapter).entry_points

    def call_alone(self, model, **options):
        return {"call": right(self, model, **options)["call"]}

    monkeypatch.setattr(type(adapter), "entry_points", call_alone)
    with pytest.raises(AssertionError):
        test_a_copy_is_proven_in_predict_call_and_compiled_code(K)


def test_a_bn_whose_proof_fails_only_compiled_is_tried_once_more_with_care(K, monkeypatch):
    from bnfix.operations.comparison import MiscompiledError

    asked = []

    def failing(reading, edit, changed, x, **options):
        asked.append(len(edit.assign))
        raise MiscompiledError("compiled code computes something else")

    monkeypatch.setattr(proven, "verify", failing)
    with pytest.raises(bnfix.VerificationError):
        bnfix.fold(network(K))
    assert asked == [1, 1]


def test_what_one_trace_gets_wrong_for_all_is_not_held_against_predict(K):
    """TensorFlow's compiled code takes another axis of tf_keras for the channels of a convolution.

    `predict`, which knows no number of rows, is spared that; a trace for both would not be.
    """
    L = K.layers
    inputs = K.Input((4, 4, 4))
    x = L.ReLU()(L.BatchNormalization(name="folds")(L.Conv2D(4, 1)(inputs)))
    x = L.BatchNormalization(axis=1)(L.Conv2D(3, 3, padding="same", use_bias=False)(x))
    model = K.Model(inputs, x)
    zoo.randomise_batch_norms(model, 0)
    folded, report = bnfix.fold(model, return_report=True)
    assert [outcome.path for outcome in report.changed] == ["folds"]
    images = np.random.default_rng(0).normal(size=(5, 4, 4, 4)).astype("f")
    ours, theirs = (one.predict(images, verbose=0) for one in (folded, model))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    checked = bnfix.check(folded, images)
    assert {f.cause for f in checked.faults} <= {"miscompiled", "entry_points_disagree"}
    wrong = [m.entry_point for m in checked.measurements if m.against_predict.is_real]
    assert wrong in ([], ["tf.function"])
