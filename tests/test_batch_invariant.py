"""batch_invariant: the same bits for a row in any batch, at any place, and no other model."""

import numpy as np
import pytest
import references as ref
import zoo

import bnfix
from bnfix.operations import batch_invariant as module


def mlp(K):
    L = K.layers
    hidden = [L.Dense(300, activation="relu"), L.BatchNormalization(), L.Dense(257)]
    return K.Sequential([K.Input((64,)), *hidden, L.Dense(10, activation="softmax")])


def lstm(K):
    return K.Sequential([K.Input((12, 17)), K.layers.LSTM(64), K.layers.Dense(5)])


def resnet50(K):
    return K.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=5)


def mobilenet_v2(K):
    return K.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=5)


SMALL = (mlp, lstm)
LARGE = (resnet50, mobilenet_v2)


def built(make, K):
    K.utils.set_random_seed(0)
    model = make(K)
    zoo.randomise_batch_norms(model, 0)
    shape = tuple(model.inputs[0].shape[1:])
    return model, np.random.default_rng(0).normal(size=(64, *shape)).astype("float32")


def assert_same_bits(stable, x, counts):
    """Any number of rows in any order, against every row by itself among all."""
    wanted = stable.predict(x)
    rng = np.random.default_rng(1)
    for count in counts:
        rows = rng.permutation(len(x))[:count]
        np.testing.assert_array_equal(stable.predict(x[rows]), wanted[rows], err_msg=str(count))


@pytest.mark.parametrize("make", SMALL, ids=lambda make: make.__name__)
def test_a_row_gives_the_same_bits_in_any_batch_of_1_to_64_rows_in_any_order(K, make):
    model, x = built(make, K)
    stable = bnfix.batch_invariant(model)
    assert_same_bits(stable, x, (1, 2, 3, 5, 6, 7, 8, 13, 33, 64))
    ref.assert_close([stable.predict(x)], [model.predict(x, verbose=0)], 1e-5)


@pytest.mark.every(2)
@pytest.mark.parametrize(("make", "dialect"), [(resnet50, "keras3"), (mobilenet_v2, "tf_keras")])
def test_large_networks_too(make, dialect):
    """Fewer counts: each takes seconds. All of them, in both Kerases, under `-m long`."""
    model, x = built(make, zoo.keras_module(dialect))
    assert_same_bits(bnfix.batch_invariant(model), x[:20], (1, 3, 13))


@pytest.mark.long
@pytest.mark.parametrize("make", [*SMALL, *LARGE], ids=lambda make: make.__name__)
def test_all_networks_at_every_number_of_rows(K, make):
    model, x = built(make, K)
    assert_same_bits(bnfix.batch_invariant(model), x, range(1, 65))


@pytest.mark.parametrize("batch_size", [1, 16])
def test_any_batch_size_will_do(K, batch_size):
    model, x = built(mlp, K)
    assert_same_bits(bnfix.batch_invariant(model, batch_size), x, (1, 5, 17))


def test_the_saved_model_makes_the_same_callable_again_in_a_line(K, tmp_path):
    model, x = built(mlp, K)
    wanted = bnfix.batch_invariant(model).predict(x[:9])
    model.save(tmp_path / "model.keras")
    again = bnfix.batch_invariant(K.models.load_model(tmp_path / "model.keras"))
    np.testing.assert_array_equal(again(x[4:5]), wanted[4:5])


def test_structures_text_and_data_sets_go_in_and_come_out(dialect):
    for name in ("inputs_in_a_nest", "text_vectorization", "compiled_dict_losses"):
        entry = next(entry for entry in zoo.MODELS if entry.name == name)
        model = zoo.build(entry, dialect)
        x = zoo.inputs_for(model, rows=11)
        found = bnfix.batch_invariant(model).predict(x)
        wanted = model.predict(x, verbose=0)
        assert type(found) is type(wanted)
        ref.assert_close(ref.numbers(found), ref.numbers(wanted), 1e-5)
    model, x = built(mlp, zoo.keras_module(dialect))
    stable = bnfix.batch_invariant(model)
    parts = iter([(x[:5], None), (x[5:30], None)])
    np.testing.assert_array_equal(stable.predict(parts), stable.predict(x[:30]))


def test_the_model_is_left_as_it_was_and_changes_of_it_are_followed(K):
    model, x = built(mlp, K)
    before = ref.weights_of(model)
    stable = bnfix.batch_invariant(model)
    first = stable.predict(x)
    ref.assert_same_weights(model, before)
    model.layers[-1].bias.assign(np.arange(10.0))
    assert not np.array_equal(stable.predict(x), first)


def test_what_it_cannot_do_is_refused(K):
    inputs = K.Input(batch_size=4, shape=(3, 2))
    stateful = K.Model(inputs, K.layers.LSTM(3, stateful=True, name="lstm")(inputs))
    stateful(np.zeros((4, 3, 2), "float32"))
    with pytest.raises(bnfix.UnsupportedModelError, match="lstm goes on from the state"):
        bnfix.batch_invariant(stateful)
    fixed = K.Model(inputs, K.layers.Dense(2)(inputs))
    with pytest.raises(bnfix.UnsupportedModelError, match="Pass batch_size=4"):
        bnfix.batch_invariant(fixed)
    assert bnfix.batch_invariant(fixed, 4).predict(np.ones((3, 3, 2))).shape == (3, 3, 2)
    model, x = built(mlp, K)
    with pytest.raises(bnfix.OptionError, match="batch_size must be"):
        bnfix.batch_invariant(model, 0)
    with pytest.raises(bnfix.DataError, match="is empty"):
        bnfix.batch_invariant(model).predict(x[:0])
    for misfit in (x[..., :-1], x.astype(str), {"other": x}, x * np.nan):
        with pytest.raises(bnfix.DataError):
            bnfix.batch_invariant(model).predict(misfit)
        with pytest.raises(bnfix.DataError):
            bnfix.batch_invariant(model, x=misfit)


def test_the_law_rejects_filling_up_without_regard_to_positions(monkeypatch):
    """At a batch size that leaves a rest of the tiles in which products are computed."""
    everywhere = lambda subject, batch_size, x: tuple(range(batch_size))  # noqa: E731
    model, x = built(mlp, zoo.keras_module("keras3"))
    if all(len(bnfix.batch_invariant(model, n).positions) == n for n in (5, 7, 8)):
        pytest.skip("on this processor every position of a batch gives the same bits")
    monkeypatch.setattr(module, "_positions", everywhere)
    naive = [bnfix.batch_invariant(model, batch_size) for batch_size in (5, 7, 8)]
    with pytest.raises(AssertionError):
        [assert_same_bits(stable, x, range(1, 65, 3)) for stable in naive]


def test_the_law_rejects_rounding_that_depends_on_the_number_of_rows(K):
    """As plain `predict` has it on most processors, and here on all."""
    model, x = built(mlp, K)

    class Plain:
        def predict(self, x):
            rows = np.float32(len(x))
            return model.predict(x, verbose=0, batch_size=64) * rows / rows

    with pytest.raises(AssertionError):
        assert_same_bits(Plain(), x, range(1, 65, 3))
