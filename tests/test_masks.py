"""Masks: arguments of their own, which Keras 3 records beside the data and tf_keras does not."""

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.adapters import defining
from bnfix.graph.graph import Call

CLOSE = 1e-5


def tokens(K, layers_on_embedded):
    """Words of 7 tokens, 0 for none, behind an embedding that masks them."""
    K.utils.set_random_seed(0)
    inputs = K.Input((7,), dtype="int32")
    embedded = K.layers.Embedding(9, 5, mask_zero=True)(inputs)
    model = K.Model(inputs, layers_on_embedded(K.layers, embedded))
    zoo.randomise_batch_norms(model, 0)
    x = np.random.default_rng(0).integers(1, 9, (6, 7))
    x[:3, 4:] = 0
    table = model.layers[1].embeddings
    # What goes by its sign, as a mask does, is not to depend on who draws the numbers.
    table.assign(np.random.default_rng(1).uniform(-0.05, 0.05, table.shape))
    return model, x


def pooled(L, x):
    return L.ReLU()(L.BatchNormalization()(L.GlobalAveragePooling1D()(L.Dense(4)(x))))


def branches(L, x):
    joined = L.Add()([L.Dense(4)(x), L.Dense(4)(x)])
    return L.ReLU()(L.BatchNormalization()(L.GlobalAveragePooling1D()(joined)))


def by_position(L, x):
    mask = L.Lambda(lambda y: y[..., 0] > 0)(x)
    return L.ReLU()(L.BatchNormalization()(L.GlobalAveragePooling1D()(L.Dense(4)(x), mask)))


MASKED = [pooled, branches, by_position]


@pytest.mark.parametrize("make", MASKED)
def test_a_mask_is_no_obstacle_to_a_normalization(K, make):
    model, x = tokens(K, make)
    wanted = ref.inferred(model, x)
    folded = bnfix.fold(model, x=x, strict=True)
    assert not zoo.batch_norms(folded)
    ref.assert_close(ref.inferred(folded, x), wanted, CLOSE)


@pytest.mark.parametrize("make", MASKED)
def test_every_transform_and_every_examination_takes_a_masked_model(K, make):
    model, x = tokens(K, make)
    bnfix.recalibrate(model, x, guard=False, min_count=1, verbose=0)
    assert ref.worst_deviation(model, x) < 1e-5
    assert bnfix.diagnose(model, x).batch_norms == 1
    wanted = ref.inferred(model, x)
    for changed in (bnfix.repair(model, x, min_count=1, verbose=0), bnfix.strip_training(model)):
        ref.assert_close(ref.inferred(changed, x), wanted, CLOSE)


def test_a_model_that_is_given_masked_tensors_is_open_like_any_other(K, recwarn):
    inner = K.Input((7, 5))
    layers = K.layers.Dense(4), K.layers.BatchNormalization(), K.layers.GlobalAveragePooling1D()
    y = inner
    for layer in layers:
        y = layer(y)
    encoder = K.Model(inner, y, name="encoder")
    model, x = tokens(K, lambda L, embedded: L.Dense(2)(encoder(embedded)))
    wanted = ref.inferred(model, x)
    folded, report = bnfix.fold(model, x=x, return_report=True)
    assert [outcome.path for outcome in report.changed] == [f"encoder/{layers[1].name}"]
    ref.assert_close(ref.inferred(folded, x), wanted, CLOSE)
    # What is masked outside is masked inside.
    assert all(call.masked for call in bnfix.graph_of(model) if call.path.startswith("encoder"))


def test_a_mask_is_known_apart_from_the_data(K):
    model, _ = tokens(K, by_position)
    pooling = bnfix.graph_of(model).of_kind("GlobalAveragePooling1D")[0]
    assert (len(pooling.inputs), len(pooling.masks)) == (1, 1)
    assert pooling in bnfix.graph_of(model).consumers(pooling.masks[0])


# --- shown able to fail ---------------------------------------------------------------------------


def test_masks_taken_for_data_would_be_seen(K, monkeypatch):
    monkeypatch.setattr(defining, "is_mask", lambda name: False)
    with pytest.raises((ValueError, bnfix.BnfixError)):
        test_a_mask_is_no_obstacle_to_a_normalization(K, by_position)


def test_masks_that_are_let_go_too_early_would_be_seen(K, monkeypatch):
    monkeypatch.setattr(Call, "reads", property(lambda call: call.inputs))
    with pytest.raises((KeyError, AssertionError, bnfix.BnfixError)):
        test_every_transform_and_every_examination_takes_a_masked_model(K, by_position)


def test_statistics_are_those_of_what_the_mask_lets_through(K):
    L = K.layers
    inputs = K.Input((6, 3))
    model = K.Model(inputs, L.BatchNormalization(name="bn")(L.Masking()(inputs)))
    x = np.random.default_rng(0).normal(5, 2, (40, 6, 3)).astype("float32")
    x[:, 4:] = 0
    bnfix.recalibrate(model, x, verbose=0)
    norm = model.get_layer("bn")
    np.testing.assert_allclose(norm.moving_mean, x[:, :4].mean(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, x[:, :4].var(axis=(0, 1)), rtol=1e-4)


def test_a_mask_that_is_passed_by_hand_counts_as_one_that_came_along(K):
    inputs, mask = K.Input((6, 3)), K.Input((6,), dtype="bool")
    model = K.Model([inputs, mask], K.layers.BatchNormalization(name="bn")(inputs, mask=mask))
    x = np.random.default_rng(0).normal(5, 2, (40, 6, 3)).astype("float32")
    bnfix.recalibrate(model, [x, np.tile(np.arange(6) < 4, (40, 1))], verbose=0)
    mean = model.get_layer("bn").moving_mean
    np.testing.assert_allclose(mean, x[:, :4].mean(axis=(0, 1)), rtol=1e-5)


def words(L, x):
    return L.GRU(3)(L.BatchNormalization()(x))


def paragraphs(L, x):
    """Masks along two axes, of inputs that look like images."""

    class Marked(L.Layer):
        supports_masking = True

        def call(self, y, mask=None):
            return y if mask is None else y + 1.0

    lines = L.Masking()(L.Reshape((7, 5, 1))(L.ReLU()(x)))
    return Marked()(L.BatchNormalization()(lines))


@pytest.mark.both
@pytest.mark.parametrize("make", [words, paragraphs])
def test_what_is_lowered_hands_the_mask_on_or_stays(K, make):
    model, x = tokens(K, make)
    wanted = ref.inferred(model, x)
    lowered, report = bnfix.fold(model, lower=True, return_report=True)
    ref.assert_close(ref.inferred(lowered, x), wanted, CLOSE)
    if report.declined:
        assert "a mask comes with its inputs" in report.declined[0].detail
        assert not K.layers.Rescaling(1.0).supports_masking
