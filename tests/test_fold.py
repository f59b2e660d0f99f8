"""fold: the same outputs with fewer layers, or a reason; never the caller's model."""

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters.choose import adapter_of
from bnfix.numerics import linear as linear_numbers
from bnfix.numerics.norm import NormSpec
from bnfix.operations import proven
from bnfix.passes import backward

BY_NAME = {entry.name: entry for entry in zoo.MODELS}
CASES = zoo.cases(having={"bn"}, lacking={"subclassed"})
#: Of the output scale. Half precision rounds each folded weight to 11 or 8 bits.
CLOSE = 1e-5
HALF = {"float16": 2.0**-9, "bfloat16": 2.0**-6}


def outputs(model, x):
    with adapter_of(model).preserved(model):
        return ref.inferred(model, x)


def closeness(model):
    return HALF.get(adapter_of(model).coarsest_dtype(model), CLOSE)


# --- changes -------------------------------------------------------------------------------------


@pytest.mark.every(6)
@pytest.mark.parametrize(("entry", "dialect"), CASES)
def test_folding_changes_no_output_nor_the_model_given_and_leaves_nothing_to_fold(entry, dialect):
    model = zoo.build(entry, dialect)
    x = zoo.inputs_for(model, rows=3)
    adapter = adapter_of(model)
    before = [adapter.copy_value(v) for v in adapter.variables(model)]
    random = entry.tags_in(dialect) & {"stochastic", "baked"}
    wanted = None if random else outputs(model, x)

    folded, report = bnfix.fold(model, return_report=True)

    for variable, value in zip(adapter.variables(model), before, strict=True):
        np.testing.assert_array_equal(adapter.copy_value(variable), value)
    assert len(zoo.batch_norms(folded)) == len(zoo.batch_norms(model)) - len(report.changed)
    assert all(outcome.detail for outcome in report.outcomes)
    assert (folded is model) == (not report.changed)
    if wanted is not None:
        ref.assert_close(outputs(folded, x), wanted, closeness(model))
    again, more = bnfix.fold(folded, return_report=True)
    assert again is folded, "a second fold found more"
    assert not more.changed


FOLDS_ALL = {
    "bn_of_a_join",
    "conv_with_fused_relu",
    "regularizers_and_constraints",
    "conv_bn",
    "conv_with_bias",
    "conv1d",
    "conv3d",
    "depthwise",
    "depthwise_multiplier_2",
    "dense_rank2",
    "dense_rank3",
    "dilated_conv",
    "grouped_conv",
    "bn_scale_false",
    "bn_center_false",
    "bn_statistics_only",
    "bn_chain",
    "bn_renorm",
    "bn_frozen",
    "nested_called_twice",
    "three_deep",
    "shared_conv_and_bn",
    "small_resnet",
    "small_mobilenet",
    "mixed_float16",
    "float64",
}


@pytest.mark.every(5)
@pytest.mark.parametrize("name", sorted(FOLDS_ALL))
def test_every_bn_after_a_linear_layer_is_folded(dialect, name):
    model = zoo.build(BY_NAME[name], dialect)
    folded, report = bnfix.fold(model, strict=True, return_report=True)
    assert not report.declined
    assert not zoo.batch_norms(folded)


@pytest.mark.every(2)
@pytest.mark.parametrize("name", ["ResNet50", "MobileNetV2", "EfficientNetB0"])
def test_the_networks_that_users_have_fold_completely(K, name):
    K.utils.set_random_seed(0)
    model = getattr(K.applications, name)(weights=None, input_shape=(64, 64, 3), classes=10)
    zoo.randomise_batch_norms(model, 0)
    x = np.random.default_rng(0).normal(size=(4, 64, 64, 3)).astype("float32") * 50
    before, wanted = ref.weights_of(model), outputs(model, x)
    folded, report = bnfix.fold(model, return_report=True)
    assert (zoo.batch_norms(folded), report.declined) == ([], ())
    ref.assert_close(outputs(folded, x), wanted, CLOSE)
    ref.assert_close(outputs(model, x), wanted, 0.0)
    ref.assert_same_weights(model, before)


def test_a_folded_model_reloads_from_disk_with_the_same_outputs(dialect, K, tmp_path):
    for name in ("small_resnet", "nested_called_twice", "depthwise_multiplier_2"):
        model = zoo.build(BY_NAME[name], dialect)
        x = zoo.inputs_for(model, rows=3)
        folded = bnfix.fold(model)
        for suffix in (".keras", ".h5"):
            file = str(tmp_path / (name + suffix))
            folded.save(file)
            ref.assert_close(outputs(K.models.load_model(file), x), outputs(folded, x), CLOSE)


def test_output_names_survive_although_the_bn_that_gave_them_is_gone(K):
    inputs = K.Input((5,), name="features")
    model = K.Model(inputs, K.layers.BatchNormalization(name="logits")(K.layers.Dense(3)(inputs)))
    folded = bnfix.fold(model)
    assert folded.output_names == model.output_names == ["logits"]


# --- declines ------------------------------------------------------------------------------------

DECLINES = {
    "foreign_axis_conv": r"normalizes axis 1, but the channels of conv\S+ lie along axis 3",
    "foreign_axis_dense": "normalizes axis 1, but the channels of",
    "foreign_axis_channels_first": "normalizes axis 3, but the channels of",
    "conv_is_output": "is an output of the model as well",
    "conv_with_two_consumers": "also feeds",
    "conv_with_two_batch_norms": "also feeds batch_normalization",
    "bn_first_at_input": "which is not a linear layer",
    "bn_subclass": "is a subclass of BatchNormalization with code of its own",
    "residual_shared_conv": "not every call feeds",
}


@pytest.mark.parametrize("name", sorted(DECLINES))
def test_what_must_stay_is_reported_with_its_reason(dialect, name):
    import re

    model = zoo.build(BY_NAME[name], dialect)
    _, report = bnfix.fold(model, return_report=True)
    assert any(re.search(DECLINES[name], outcome.detail) for outcome in report.declined), str(
        report
    )


def test_a_bn_with_baked_training_is_declined_and_the_way_out_named(dialect):
    model = zoo.build(BY_NAME["baked_training_bn"], dialect)
    _, report = bnfix.fold(model, return_report=True)
    assert any("run bnfix.strip_training first" in outcome.detail for outcome in report.declined)
    stripped = bnfix.strip_training(model)
    assert len(bnfix.fold(stripped, return_report=True)[1].changed) > len(report.changed)


def test_strict_lists_every_objection_at_once_and_changes_nothing(dialect):
    model = zoo.build(BY_NAME["foreign_axis_conv"], dialect)
    before = ref.weights_of(model)
    with pytest.raises(
        bnfix.UnsupportedModelError, match=r"2 of 3 .*must stay(.|\n)*axis 1(.|\n)*axis 2"
    ):
        bnfix.fold(model, strict=True)
    ref.assert_same_weights(model, before)


def test_a_variance_that_cannot_be_folded_is_declined(K):
    inputs = K.Input((4,))
    norm = K.layers.BatchNormalization(epsilon=1e-12)
    model = K.Model(inputs, norm(K.layers.Dense(3)(inputs)))
    for bad in (-1.0, np.nan):
        norm.moving_variance.assign([1.0, bad, 1.0])
        folded, report = bnfix.fold(model, return_report=True)
        assert folded is model
        assert "would not be finite" in report.declined[0].detail


def large_in_float16(K):
    """Weights of float32 that hold the folded ones, in a layer that computes in float16."""
    inputs = K.Input((4,))
    dense = K.layers.Dense(3, dtype="mixed_float16", kernel_initializer="ones")
    norm = K.layers.BatchNormalization(dtype="mixed_float16")
    model = K.Model(inputs, norm(dense(inputs)))
    norm.gamma.assign([1e5, 1.0, 1.0])
    return model


def test_weights_are_kept_in_what_a_layer_computes_with(K):
    model = large_in_float16(K)
    folded, report = bnfix.fold(model, x=np.full((2, 4), 1e-3, "float32"), return_report=True)
    assert folded is model
    assert "would not be finite in float16" in report.declined[0].detail


def test_weights_too_large_to_compute_with_would_be_seen(K, monkeypatch):
    from bnfix.passes import fold as fold_pass

    monkeypatch.setattr(fold_pass, "largest_finite", lambda dtype: float(np.finfo("float32").max))
    with pytest.raises((AssertionError, bnfix.VerificationError)):
        test_weights_are_kept_in_what_a_layer_computes_with(K)


def test_a_model_without_bn_is_returned_as_it_is(K):
    model = K.Sequential([K.Input((3,)), K.layers.Dense(2)])
    folded, report = bnfix.fold(model, return_report=True)
    assert folded is model
    assert "no BatchNormalization" in report.notes[0]


@pytest.mark.parametrize("name", ["subclassed_lists_and_dicts"])
def test_a_model_without_graph_is_refused_with_what_works(dialect, name):
    model = zoo.build(BY_NAME[name], dialect)
    with pytest.raises(bnfix.UnsupportedModelError, match=r"needs a Functional.*bnfix\.freeze"):
        bnfix.fold(model, open="never")


# --- shown able to fail --------------------------------------------------------------------------


RIGHT_AFFINE = NormSpec.affine


def without_epsilon(norm):
    return RIGHT_AFFINE(NormSpec(**{**vars(norm), "epsilon": 0.0}))


def without_mean(norm):
    scale, shift = RIGHT_AFFINE(norm)
    return scale, shift + scale * norm.moving_mean


def on_the_wrong_axis(linear, scale, shift):
    folded = linear_numbers.scale_and_shift(linear, scale, shift)
    return linear_numbers.Linear(**{**vars(folded), "kernel": np.asarray(folded.kernel)[..., ::-1]})


def without_the_old_bias(linear, scale, shift):
    folded = linear_numbers.scale_and_shift(linear, scale, shift)
    return linear_numbers.Linear(
        **{**vars(folded), "bias": np.broadcast_to(shift, folded.bias.shape)}
    )


MUTANTS = [
    ("affine", without_epsilon),
    ("affine", without_mean),
    ("scale_and_shift", on_the_wrong_axis),
    ("scale_and_shift", without_the_old_bias),
]


@pytest.mark.parametrize(
    ("where", "mutant"), MUTANTS, ids=[mutant.__name__ for _, mutant in MUTANTS]
)
def test_wrong_algebra_is_withheld_by_the_models_own_proof(dialect, monkeypatch, where, mutant):
    if where == "affine":
        monkeypatch.setattr(NormSpec, "affine", mutant)
    else:
        monkeypatch.setattr(backward, "scale_and_shift", mutant)
    model = zoo.build(BY_NAME["conv_with_bias"], dialect)
    before = ref.weights_of(model)
    with pytest.raises(bnfix.VerificationError, match="withheld"):
        bnfix.fold(model)
    ref.assert_same_weights(model, before)


def test_the_law_would_see_a_wrong_model_if_the_proof_were_off(dialect, monkeypatch):
    monkeypatch.setattr(backward, "scale_and_shift", without_the_old_bias)
    monkeypatch.setattr(proven, "verify", ref.not_checked)
    with pytest.raises(AssertionError):
        test_folding_changes_no_output_nor_the_model_given_and_leaves_nothing_to_fold(
            BY_NAME["conv_with_bias"], dialect
        )


def test_an_output_keeps_its_dtype_where_only_a_name_is_left_of_a_bn(K):
    inputs = K.Input((5,), dtype="float64")
    norm = K.layers.BatchNormalization(name="logits", dtype="float64")
    model = K.Model(inputs, norm(K.layers.Dense(3, dtype="float64")(inputs)))
    assert ref._array(bnfix.fold(model)(np.ones((2, 5)))).shape == (2, 3)
    assert "float64" in str(bnfix.fold(model).outputs[0].dtype)


def test_a_shared_bn_that_is_an_output_twice_leaves_one_name(K):
    inputs, others = K.Input((5,)), K.Input((5,))
    dense, norm = K.layers.Dense(3), K.layers.BatchNormalization(name="logits")
    model = K.Model([inputs, others], [norm(dense(inputs)), norm(dense(others))])
    zoo.randomise_batch_norms(model, 0)
    folded = bnfix.fold(model, strict=True)
    x = zoo.inputs_for(model, rows=3)
    ref.assert_close(ref.inferred(folded, x), ref.inferred(model, x), CLOSE)
    assert [layer.name for layer in folded.layers].count("logits") == 1
