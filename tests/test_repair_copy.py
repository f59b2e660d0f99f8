"""What `repair` leaves alone: the model given, unless it may be changed, and layers not chosen."""

import contextlib

import numpy as np
import pytest
import zoo

import bnfix
from bnfix.adapters.rebuilding import Rebuilt
from bnfix.operations import mending

ROWS = np.random.default_rng(0).normal(3.0, 2.0, size=(64, 6)).astype("float32")
TARGETS = np.random.default_rng(1).normal(size=(64, 2)).astype("float32")


def functional(K):
    inputs = K.Input((6,))
    x = K.layers.BatchNormalization(name="first")(K.layers.Dense(4)(inputs))
    x = K.layers.BatchNormalization(name="second")(K.layers.Dense(4)(x))
    return K.Model(inputs, K.layers.Dense(2)(x))


def sequential(K):
    inner = K.Sequential([K.Input((6,)), K.layers.Dense(4), K.layers.BatchNormalization()])
    return K.Sequential([K.Input((6,)), inner, K.layers.Dense(2)])


def class_of(K, *, configured, by_values=False):
    class Code(K.Model):
        def __init__(self, width, **options):
            super().__init__(**options)
            self.width, self.norm = width, K.layers.BatchNormalization()
            self.hidden, self.head = K.layers.Dense(width), K.layers.Dense(2)

        def seen(self, x):
            return 2.0 if float(zoo.functions(K).max(x)) > 1e9 else 1.0

        def call(self, x, training=None):
            x = self.norm(self.hidden(x), training=training)
            return self.head(x) * (self.seen(x) if by_values else 1.0)

        if configured:

            def get_config(self):
                return {**super().get_config(), "width": self.width}

    return Code


def configured(K):
    model = class_of(K, configured=True)(4)
    model(ROWS[:2])
    return model


def plain(K):
    model = class_of(K, configured=False)(4)
    model(ROWS[:2])
    return model


MODELS = (functional, sequential, configured, plain)


def faulty(K, make):
    K.utils.set_random_seed(0)
    model = make(K)
    zoo.batch_norms(model)[0].trainable = False
    model.compile(K.optimizers.SGD(0.01, momentum=0.9), "mse")
    model.train_on_batch(ROWS, TARGETS)
    model.predict(ROWS[:8], verbose=0)
    for norm in zoo.batch_norms(model):
        norm.moving_mean.assign(np.full(norm.moving_mean.shape, 50.0, "f"))
    return model


def state(model):
    return {
        "values": [np.asarray(each.numpy()).tobytes() for each in _variables(model)],
        "flags": [norm.trainable for norm in zoo.batch_norms(model)],
        "functions": id(model.predict_function),
    }


def _variables(model):
    held = model.optimizer.variables
    return [*model.variables, *(held() if callable(held) else held)]


def left_alone(K, make):
    model = faulty(K, make)
    before = state(model)
    repaired, report = bnfix.repair(model, (ROWS, TARGETS), verbose=0, return_report=True)
    assert report.ok, report
    assert repaired is not model
    assert state(model) == before
    assert not {id(each) for each in _variables(model)} & {
        id(each) for each in _variables(repaired)
    }
    return model, repaired


@pytest.mark.every(2)
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_the_model_given_stays_as_it_is(K, make):
    model, repaired = left_alone(K, make)
    assert next(iter(zoo.batch_norms(repaired))).trainable is False
    assert model.count_params() == repaired.count_params()
    if make is not plain:  # one whose class tells how it is made stays of that class
        assert type(repaired) is type(model)
        steps = [np.asarray(_variables(one)[-1].numpy()) for one in (model, repaired)]
        np.testing.assert_array_equal(*steps)  # the optimizer knows what it knew
    repaired.fit(ROWS, TARGETS, verbose=0)


def test_an_optimizer_that_knows_other_weights_starts_anew_and_that_is_said(K):
    model = faulty(K, functional)
    zoo.batch_norms(model)[1].trainable = False
    _, report = bnfix.repair(model, (ROWS, TARGETS), verbose=0, return_report=True)
    assert any("optimizer" in step and "starts anew" in step for step in report.steps)


def test_the_model_itself_is_changed_on_request(K):
    model = faulty(K, functional)
    repaired = bnfix.repair(model, (ROWS, TARGETS), copy=False, verbose=0)
    assert repaired is model
    assert abs(zoo.batch_norms(model)[0].moving_mean.numpy()).max() < 40


def trained(model):
    """Keras trains code that goes by values on TensorFlow alone, even where it runs eagerly."""
    if zoo.BACKEND == "tensorflow":
        model.train_on_batch(ROWS, TARGETS)


def test_what_cannot_be_had_twice_is_refused_and_mended_in_place(K):
    model = class_of(K, configured=False, by_values=True)(4)
    model(ROWS[:2])
    model.run_eagerly = True
    model.compile(K.optimizers.SGD(0.01, momentum=0.9), "mse", run_eagerly=True)
    trained(model)
    zoo.batch_norms(model)[0].moving_mean.assign(np.full(4, 50.0, "f"))
    before = [value.tobytes() for value in model.get_weights()]

    def one_is_enough(self, *args, **options):
        raise RuntimeError("one is enough")

    type(model).__init__ = one_is_enough
    with pytest.raises(bnfix.UnsupportedModelError, match=r"copy=False.*Nothing was") as caught:
        bnfix.repair(model, ROWS, verbose=0)
    assert caught.value.advises == ("copy",)
    assert [value.tobytes() for value in model.get_weights()] == before
    assert bnfix.repair(model, (ROWS, TARGETS), copy=False, verbose=0) is model


def test_code_that_goes_by_values_is_built_by_running_it(K):
    """Keras builds a copy on placeholders, on which such code does not run."""
    model = class_of(K, configured=True, by_values=True)(4)
    model(ROWS[:2])
    model.run_eagerly = True
    model.compile("sgd", "mse", run_eagerly=True)
    trained(model)
    before = model.get_weights()
    zoo.batch_norms(model)[0].moving_mean.assign(np.full(4, 50.0, "f"))
    repaired = bnfix.repair(model, ROWS, guard=False, verbose=0)
    assert repaired is not model
    assert zoo.batch_norms(model)[0].moving_mean.numpy()[0] == 50
    assert zoo.batch_norms(repaired)[0].moving_mean.numpy()[0] != 50
    for ours, theirs in zip(before, repaired.get_weights(), strict=True):
        if ours.ndim == 2:
            np.testing.assert_array_equal(ours, theirs)


def half_closed(K):
    """A graph with a baked call, and a layer that stays closed, has a BN and tells no config."""

    class Closed(K.layers.Layer):
        def __init__(self, norm):
            super().__init__()
            self.norm = norm

        def build(self, shape):
            self.own = self.add_weight(shape=(1,), initializer="ones", name="own")
            self.norm.build(shape)
            self.built = True

        def call(self, x):
            return self.norm(x, training=False) * self.own

        def get_config(self):
            raise NotImplementedError

    inputs = K.Input((6,))
    x = K.layers.BatchNormalization(name="baked")(inputs, training=True)
    model = K.Model(inputs, Closed(K.layers.BatchNormalization(name="closed"))(x))
    _, closed = zoo.batch_norms(model)
    closed.moving_mean.assign(np.full(6, 50.0, "f"))
    return model, closed


def shared_layer_left_alone(K):
    model, closed = half_closed(K)
    with contextlib.suppress(bnfix.UnsupportedModelError):
        bnfix.repair(model, ROWS, verbose=0)
    np.testing.assert_array_equal(closed.moving_mean.numpy(), 50.0)


def test_what_a_new_model_shares_with_the_one_given_is_not_changed(K, monkeypatch):
    shared_layer_left_alone(K)
    if K.__name__ == "tf_keras":  # whose layers can be copied with what they hold: none is shared
        return
    with pytest.raises(bnfix.UnsupportedModelError, match="copy=False"):
        bnfix.repair(half_closed(K)[0], ROWS, verbose=0)
    monkeypatch.setattr(mending, "share_norms", lambda *_: False)  # the mutant
    with pytest.raises(AssertionError):
        shared_layer_left_alone(K)


def test_a_copy_that_is_none_is_caught(K, monkeypatch):
    """The mutant: what is changed in place is the model given."""
    monkeypatch.setattr(mending, "copied", lambda subject, *_, **__: Rebuilt(subject.model, ()))
    with pytest.raises(AssertionError):
        left_alone(K, functional)


def test_only_the_layers_chosen_are_mended(K):
    model = faulty(K, functional)
    repaired, report = bnfix.repair(model, ROWS, layers="second", verbose=0, return_report=True)
    means = {norm.name: abs(norm.moving_mean.numpy()).max() for norm in zoo.batch_norms(repaired)}
    assert means["first"] == 50
    assert means["second"] != 50
    assert not report.ok
    assert "in first" in report.left[0]


def test_a_training_true_is_stripped_where_it_was_chosen(K):
    inputs = K.Input((6,))
    x = K.layers.BatchNormalization(name="first")(inputs, training=True)
    x = K.layers.BatchNormalization(name="second")(K.layers.Dense(4)(x), training=True)
    model = K.Model(inputs, x)
    repaired = bnfix.repair(model, ROWS, layers=["second"], verbose=0)
    baked = {call.name: call.training for call in bnfix.graph_of(repaired)}
    assert baked["first"] is True
    assert baked["second"] is None


def test_unknown_layers_are_all_named_with_the_nearest(K):
    model = faulty(K, functional)
    with pytest.raises(bnfix.OptionError, match=r"at 'frist', 'x'; the nearest are first\. "):
        bnfix.repair(model, ROWS, layers=["frist", "second", "x"])


@pytest.mark.parametrize(
    "options",
    [{"method": "fast"}, {"guard": "no"}, {"metric": 3}, {"min_count": 0}, {"memory_limit": "x"}],
)
def test_a_wrong_option_is_refused_before_anything_is_done(options):
    keras = zoo.keras_module("keras3")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(bnfix.OptionError, match=next(iter(options))):
        bnfix.repair(model, ROWS[:, :3], **options)
