"""Where a transform meets what real code does to models: no raw error, nothing changed unsaid."""

from collections import namedtuple

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix import tree
from bnfix.adapters import weights
from bnfix.adapters.base import Adapter
from bnfix.graph.graph import _Unfolding
from bnfix.passes import group_norm_sites as group_pass

CLOSE = 1e-5
Pair = namedtuple("Pair", "left right")


def made(K, inputs, outputs):
    model = K.Model(inputs, outputs)
    zoo.randomise_batch_norms(model, 0)
    return model


def transforms(K, model, x):
    """Everything that reads or rewrites the graph."""
    return {
        "fold": lambda: bnfix.fold(model, x=x),
        "lower": lambda: bnfix.fold(model, lower=True),
        "diagnose": lambda: bnfix.diagnose(model, x),
        "strip_training": lambda: bnfix.strip_training(model),
        "to_group_norm": lambda: bnfix.to_group_norm(model, x, verbose=0),
        "replace": lambda: bnfix.replace(model, lambda spec: K.layers.Activation("linear")),
        "check": lambda: bnfix.check(model, x),
        "recalibrate": lambda: bnfix.recalibrate(model, x, guard=False, min_count=1, verbose=0),
        "repair": lambda: bnfix.repair(model, x, min_count=1, verbose=0),
    }


# --- shapes of models -----------------------------------------------------------------------------


def only_a_norm(K):
    L = K.layers
    inputs = K.Input((3,))
    only = K.Sequential([K.Input((3,)), L.BatchNormalization()], name="only")
    return made(K, inputs, L.ReLU()(only(L.Dense(3)(inputs)))), np.ones((4, 3), "float32")


def along_the_rows(K):
    inputs = K.Input((3,), batch_size=4)
    norm = K.layers.BatchNormalization(axis=0)
    return made(K, inputs, norm(K.layers.Dense(3)(inputs))), np.ones((4, 3), "float32")


def of_named_inputs(K):
    L = K.layers
    left, right = K.Input((4,), name="left"), K.Input((4,), name="right")
    x = L.ReLU()(L.BatchNormalization()(L.Dense(3)(L.Concatenate()([left, right]))))
    return made(K, Pair(left, right), x), Pair(np.ones((4, 4), "f4"), np.zeros((4, 4), "f4"))


@pytest.mark.parametrize("make", [only_a_norm, along_the_rows, of_named_inputs])
def test_no_foreign_error_reaches_the_user(K, make):
    model, x = make(K)
    for act in transforms(K, model, x).values():
        act()


def test_a_nested_model_of_one_norm_folds_and_keeps_its_place(K):
    model, x = only_a_norm(K)
    folded = bnfix.fold(model, strict=True)
    assert not zoo.batch_norms(folded)
    assert folded.get_layer("only").layers
    ref.assert_close(ref.inferred(folded, x), ref.inferred(model, x), CLOSE)


def test_statistics_of_rows_stay_with_their_reason(K):
    model, _ = along_the_rows(K)
    _, report = bnfix.fold(model, lower=True, return_report=True)
    assert "along the axis of the rows" in report.declined[0].detail


def test_named_inputs_are_inputs_and_not_inputs_with_labels(K):
    model, x = of_named_inputs(K)
    bnfix.recalibrate(model, x, guard=False, min_count=1, verbose=0)
    assert ref.worst_deviation(model, x) < 1e-5


def test_named_inputs_taken_for_inputs_with_labels_would_be_seen(K, monkeypatch):
    from bnfix.data import batches

    monkeypatch.setattr(batches, "is_named", lambda item: False)
    with pytest.raises(bnfix.BnfixError):
        test_named_inputs_are_inputs_and_not_inputs_with_labels(K)
    monkeypatch.setattr(tree, "is_named", lambda item: False)
    with pytest.raises((bnfix.BnfixError, TypeError)):
        test_no_foreign_error_reaches_the_user(K, of_named_inputs)


# --- names ----------------------------------------------------------------------------------------


def test_a_sequential_keeps_the_name_of_its_output_and_its_loss(K):
    L = K.layers
    model = K.Sequential([K.Input((3,)), L.Dense(2), L.BatchNormalization(name="bn")])
    model.compile("sgd", {"bn": "mse"})
    folded, report = bnfix.fold(model, return_report=True)
    assert not zoo.batch_norms(folded)
    assert folded.layers[-1].name == "bn"
    assert not any("compiled" in note for note in report.notes)
    if K.__name__ == "keras":
        return  # no Sequential of Keras 3 knows its losses by name, the model given neither
    x, y = np.ones((4, 3), "f4"), np.ones((4, 2), "f4")
    np.testing.assert_allclose(
        folded.evaluate(x, y, verbose=0), model.evaluate(x, y, verbose=0), rtol=1e-5
    )


# --- what a nested model returns besides ----------------------------------------------------------


def with_an_unread_output(K, down=False):
    L = K.layers
    inner = K.Input((4,))
    if down:
        norm = L.BatchNormalization()(L.ReLU()(inner))
        encoder = K.Model(inner, [L.Dense(2)(norm), norm], name="encoder")
    else:
        dense = L.Dense(3)(inner)
        encoder = K.Model(inner, [L.ReLU()(L.BatchNormalization()(dense)), dense], name="encoder")
    inputs = K.Input((4,))
    return made(K, inputs, encoder(inputs)[0])


@pytest.mark.parametrize("down", [False, True])
def test_an_output_of_a_nested_model_that_nothing_takes_stays_what_it_is(K, down):
    model = with_an_unread_output(K, down)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("f4")
    folded, report = bnfix.fold(model, return_report=True)
    before, after = (ref.inferred(one.get_layer("encoder"), x) for one in (model, folded))
    ref.assert_close(after, before, CLOSE)
    assert "is an output of a nested model, although nothing takes it" in report.declined[0].detail


def test_outputs_of_nested_models_that_are_forgotten_would_be_seen(K, monkeypatch):
    monkeypatch.setattr(_Unfolding, "unread", property(lambda s: set(), lambda s, v: None), False)
    with pytest.raises(AssertionError):
        test_an_output_of_a_nested_model_that_nothing_takes_stays_what_it_is(K, False)


# --- classes of the user's own --------------------------------------------------------------------


def demanding(K, base):
    """A class that takes everything by its signature, and then asks for something else."""

    class Demanding(base):
        def __init__(self, *args, encoder=None, **options):
            if "inputs" in options or "layers" in options:
                raise RuntimeError("exactly one of `encoder` or `encoder_name` is needed")
            super().__init__(*args, **options)

    return Demanding


def test_a_class_whose_constructor_raises_anything_gives_a_functional_model(K):
    L = K.layers
    inputs = K.Input((3,))
    x = L.BatchNormalization()(L.Dense(16)(inputs))
    model = demanding(K, K.Model)(inputs, x)
    zoo.randomise_batch_norms(model, 0)
    data = np.ones((4, 3), "f4")
    for transform in (
        bnfix.fold,
        lambda model, **options: bnfix.to_group_norm(model, groups=1, **options),
    ):
        changed, report = transform(model, return_report=True)
        assert any("no longer a Demanding" in note for note in report.notes)
        assert not zoo.batch_norms(changed)
    ref.assert_close(ref.inferred(bnfix.fold(model), data), ref.inferred(model, data), CLOSE)


def test_a_sequential_class_whose_constructor_raises_gives_a_sequential(K):
    L = K.layers
    model = demanding(K, K.Sequential)([K.Input((3,)), L.Dense(2), L.BatchNormalization()])
    folded, report = bnfix.fold(model, return_report=True)
    assert any("no longer a Demanding" in note for note in report.notes)
    assert isinstance(folded, K.Sequential)


# --- what matters in training only ----------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_a_rate_of_dropout_that_was_set_later_is_kept(K, rate):
    L = K.layers
    inputs = K.Input((4,))
    dropout = L.Dropout(0.3)
    model = made(K, inputs, L.ReLU()(L.BatchNormalization()(dropout(L.Dense(3)(inputs)))))
    dropout.rate = rate
    folded = bnfix.fold(model, strict=True)
    assert folded.get_layer(dropout.name).rate == rate


def test_weights_are_still_compared_where_states_are_not(monkeypatch):
    """In Keras 3, whose dropout keeps a state among its variables."""
    monkeypatch.setattr(Adapter, "weights", lambda adapter, layer: adapter.variables(layer))
    K = zoo.keras_module("keras3")
    with pytest.raises(bnfix.UnsupportedModelError, match="weights, its copy"):
        test_a_rate_of_dropout_that_was_set_later_is_kept(K, 0.0)


BOUND = {
    "Conv2D": {"kernel_constraint": "non_neg", "kernel_regularizer": "l2"},
    "DepthwiseConv2D": {"depthwise_constraint": "non_neg", "depthwise_regularizer": "l1"},
    "SeparableConv2D": {
        "depthwise_constraint": "max_norm",
        "pointwise_constraint": "non_neg",
        "pointwise_regularizer": "l2",
    },
    "Dense": {"bias_constraint": "non_neg", "bias_regularizer": "l2"},
    "TimeDistributed": {"kernel_constraint": "max_norm"},
}


@pytest.mark.parametrize("kind", BOUND)
def test_bounds_on_weights_matter_in_training_only_and_go_with_the_fold(K, kind):
    L, options = K.layers, BOUND[kind]
    layer = {
        "Conv2D": lambda: L.Conv2D(4, 3, **options),
        "DepthwiseConv2D": lambda: L.DepthwiseConv2D(3, **options),
        "SeparableConv2D": lambda: L.SeparableConv2D(4, 3, **options),
        "Dense": lambda: L.Dense(4, **options),
        "TimeDistributed": lambda: L.TimeDistributed(L.Dense(4, **options)),
    }[kind]()
    inputs = K.Input((6, 6, 3))
    model = made(K, inputs, L.ReLU()(L.BatchNormalization()(layer(inputs))))
    folded, report = bnfix.fold(model, strict=True, return_report=True)
    x = zoo.inputs_for(model, rows=3)
    ref.assert_close(ref.inferred(folded, x), ref.inferred(model, x), CLOSE)
    told = " ".join(report.notes)
    inner = weights.inner(folded.get_layer(layer.name), kind)
    for name in options:
        assert name in told
        assert inner.get_config()[name] is None
    assert weights.inner(layer, kind).get_config()[next(iter(options))] is not None


def test_bounds_that_stay_would_be_seen(K, monkeypatch):
    monkeypatch.setattr(weights, "for_training", lambda layer, kind: ())
    with pytest.raises(AssertionError):
        test_bounds_on_weights_matter_in_training_only_and_go_with_the_fold(K, "Conv2D")


# --- numbers of groups ----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [4, np.int64(4), np.int32(4)])
def test_a_number_of_groups_is_a_number_whoever_made_it(K, number):
    inputs = K.Input((8, 8, 8))
    model = made(K, inputs, K.layers.BatchNormalization()(inputs))
    changed, report = bnfix.to_group_norm(model, groups=number, return_report=True)
    assert [layer.groups for layer in report.layers] == [4]
    assert not zoo.batch_norms(changed)


def test_a_number_of_numpys_that_stays_one_would_be_seen(monkeypatch):
    K = zoo.keras_module("keras3")
    monkeypatch.setattr(group_pass, "checked", lambda groups: groups)
    with pytest.raises(AssertionError):
        test_a_number_of_groups_is_a_number_whoever_made_it(K, np.int64(4))


# --- notes ----------------------------------------------------------------------------------------


def test_a_bug_in_a_note_takes_neither_diagnose_nor_repair_down(K, monkeypatch):
    from bnfix.operations import diagnose as room

    def broken(source, **options):
        raise IndexError("list index out of range")

    monkeypatch.setattr(room.fold_pass, "plan", broken)
    inputs = K.Input((4,))
    model = made(K, inputs, K.layers.BatchNormalization()(inputs, training=True))
    x = np.random.default_rng(0).normal(size=(40, 4)).astype("f4")
    found = bnfix.diagnose(model, x)
    assert "baked_training" in [symptom.cause for symptom in found.symptoms]
    assert any("IndexError: list index out of range" in note for note in found.notes)
    _, report = bnfix.repair(model, x, verbose=0, return_report=True)
    assert report.ok
    with pytest.raises(IndexError):  # whoever asks for it is told
        bnfix.fold(model)
