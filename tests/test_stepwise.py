"""TimeDistributed: the BatchNormalizations in it are those of any model."""

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters import stepwise
from bnfix.graph.steps import rows_per_row

CLOSE = 1e-5
STEPS = 3


def clips(rows=8):
    return np.random.default_rng(0).normal(1.0, 2.0, (rows, STEPS, 4, 4, 2)).astype("float32")


def alone(K):
    L = K.layers
    return [
        L.TimeDistributed(L.Conv2D(3, 3, padding="same"), name="conv"),
        L.TimeDistributed(L.BatchNormalization(name="bn"), name="timed"),
    ]


def with_its_convolution(K):
    L = K.layers
    both = K.Sequential(
        [K.Input((4, 4, 2)), L.Conv2D(3, 3, padding="same"), L.BatchNormalization(name="bn")]
    )
    return [K.layers.TimeDistributed(both, name="timed")]


def in_a_model(K):
    L = K.layers
    frame = K.Input((4, 4, 2))
    x = L.ReLU()(L.BatchNormalization(name="bn")(L.Conv2D(3, 3, padding="same")(frame)))
    y = L.BatchNormalization(name="side")(L.Conv2D(3, 1)(x))
    return [L.TimeDistributed(K.Model(frame, L.Add()([x, y]), name="net"), name="timed")]


def model_of(K, make):
    L, inputs = K.layers, K.Input((STEPS, 4, 4, 2))
    x = inputs
    for layer in make(K):
        x = layer(x)
    model = K.Model(inputs, L.Dense(2)(L.Flatten()(L.ReLU()(x))))
    zoo.randomise_batch_norms(model, 0)
    return model


MAKERS = [alone, with_its_convolution, in_a_model]


@pytest.mark.parametrize("make", MAKERS)
def test_what_is_wrapped_folds_and_survives_saving(K, make, tmp_path):
    model, x = model_of(K, make), clips(3)
    folded = bnfix.fold(model, strict=True)
    wanted = ref.inferred(model, x)
    ref.assert_close(ref.inferred(folded, x), wanted, CLOSE)
    bnfix.save(folded, tmp_path / "folded.keras")
    loaded = bnfix.load(tmp_path / "folded.keras")
    ref.assert_close(ref.inferred(loaded, x[:1]), ref.inferred(model, x[:1]), CLOSE)


@pytest.mark.parametrize("make", [alone, in_a_model])
def test_statistics_are_those_of_all_rows_and_steps(K, make):
    """By hand: every step of every row through the wrapped layers, as rows of one batch."""
    model, x = model_of(K, make), clips()
    _, report = bnfix.recalibrate(model, x, batch_size=3, return_report=True)
    assert report.engine == "exact"
    frames = x.reshape(-1, 4, 4, 2)
    if make is alone:
        conv, bn = model.get_layer("conv").layer, model.get_layer("timed").layer
    else:
        net = model.get_layer("timed").layer
        conv, bn = net.layers[1], net.get_layer("bn")
    seen = ref.numbers(conv(frames))[0].reshape(-1, 3)
    sigma = seen.std(axis=0)
    assert np.max(np.abs(np.asarray(bn.moving_mean) - seen.mean(axis=0)) / sigma) < CLOSE
    assert np.max(np.abs(np.asarray(bn.moving_variance) / seen.var(axis=0) - 1)) < CLOSE


def test_steps_that_are_taken_for_one_row_would_be_seen(K, monkeypatch):
    monkeypatch.setattr(stepwise, "is_stepwise", lambda adapter, layer: False)
    monkeypatch.setattr("bnfix.adapters.opened.is_stepwise", lambda adapter, layer: False)
    with pytest.raises(bnfix.UnsupportedModelError, match="which the graph does not show"):
        bnfix.fold(model_of(K, alone), strict=True)


def test_a_wrapper_in_which_nothing_changes_stays_what_it_is(K):
    L = K.layers
    inputs = K.Input((STEPS, 5))
    x = L.TimeDistributed(L.BatchNormalization(name="bn"), name="timed")(L.ReLU()(inputs))
    x = L.BatchNormalization(name="last")(L.Dense(2)(L.ReLU()(x)))
    model = K.Model(inputs, x)
    zoo.randomise_batch_norms(model, 0)
    folded, report = bnfix.fold(model, return_report=True)
    assert [outcome.path for outcome in report.declined] == ["timed/bn"]
    assert isinstance(folded.get_layer("timed"), L.TimeDistributed)


@pytest.mark.parametrize("why", ["steps", "mask"])
def test_what_a_graph_cannot_tell_stays_closed_with_the_reason(K, why):
    L = K.layers
    inputs = K.Input((None if why == "steps" else STEPS, 5))
    x = L.Dense(4)(L.Masking()(inputs) if why == "mask" else inputs)
    model = K.Model(inputs, L.TimeDistributed(L.BatchNormalization(name="bn"), name="timed")(x))
    zoo.randomise_batch_norms(model, 0)
    _, report = bnfix.fold(model, return_report=True)
    said = "takes a mask" if why == "mask" else "the number of its steps"
    assert said in report.declined[0].detail
    bnfix.recalibrate(model, np.random.default_rng(0).normal(size=(20, STEPS, 5)), verbose=0)


@pytest.mark.parametrize("make", [alone, in_a_model])
def test_group_normalization_is_fitted_to_every_step(K, make):
    """Two steps at a time are other rows, and the same fit."""
    model, x = model_of(K, make), clips()
    grouped = bnfix.to_group_norm(model, x, batch_size=3, groups=1)
    again = bnfix.to_group_norm(model, x, batch_size=8, groups=1)
    assert not zoo.batch_norms(grouped)
    for ours, theirs in zip(grouped.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def test_rows_of_steps_are_counted(K):
    graph = bnfix.graph_of(model_of(K, alone))
    [norm], rows = graph.of_kind("BatchNormalization"), rows_per_row(graph)
    assert rows[norm.inputs[0]] == rows[norm.outputs[0]] == STEPS
    assert rows[graph.inputs[0]] == rows[graph.outputs[0]] == 1
