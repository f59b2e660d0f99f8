"""What is trained after BNs were frozen within a `fit` or between two, whatever the optimizer.

On JAX Keras holds weights by position: without care the rest of a training moves the wrong ones.
"""

import numpy as np
import pytest
import zoo

import bnfix
from bnfix.adapters import retraining
from bnfix.callbacks import FreezeBN

on_jax = pytest.mark.skipif(zoo.BACKEND != "jax", reason="is for JAX: set KERAS_BACKEND=jax")

OPTIMIZERS = {
    "SGD": lambda of: of.SGD(0.01, momentum=0.9),
    "Adam": lambda of: of.Adam(0.01),
    "AdamW": lambda of: spared(of.AdamW(0.01, weight_decay=0.1)),
    "LossScaleOptimizer": lambda of: of.LossScaleOptimizer(of.Adam(0.01)),
    "EMA": lambda of: of.Adam(0.01, use_ema=True),
}
ROWS = np.random.default_rng(0).normal(1, 2, (32, 6)).astype("float32")
TARGETS = ROWS[:, :3] - 1


def spared(optimizer):
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def network(K, optimizer="Adam"):
    """Shapes of all weights are alike, so that Keras sees nothing wrong with a wrong order."""
    L = K.layers
    K.utils.set_random_seed(0)
    x = inputs = K.Input((6,))
    for _ in range(2):
        x = L.ReLU()(L.BatchNormalization(momentum=0.9)(L.Dense(6)(x)))
    model = K.Model(inputs, L.Dense(3)(x))
    model.compile(OPTIMIZERS[optimizer](K.optimizers), "mse")
    return model


def fit(model, *callbacks, epochs=1):
    given = {"batch_size": 8, "shuffle": False, "verbose": 0, "epochs": epochs}
    model.fit(ROWS, TARGETS, callbacks=list(callbacks), **given)


def values(weights):
    return [np.array(weight.numpy()) for weight in weights]


def of_norms(model):
    return values(weight for layer in zoo.batch_norms(model) for weight in layer.weights)


def within(model):
    fit(model, FreezeBN(at_epoch=1), epochs=2)


def between(model):
    fit(model)
    bnfix.freeze(model)
    fit(model)


def by_hand(model):
    """One epoch by Keras, and one in which the optimizer is told by the weight what to train."""
    import jax

    fit(model)
    for layer in zoo.batch_norms(model):
        layer.trainable = False
    trains, rest = model.trainable_variables, model.non_trainable_variables

    def loss(weights, x, y):
        made, _ = model.stateless_call(weights, values(rest), x, training=True)
        return ((made - y) ** 2).mean()

    # Keras has a wrapper scale the loss, and its gradients back, in compiled code alone.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    gradient = jax.jit(jax.grad(loss))
    for start in range(0, len(ROWS), 8):
        batch = ROWS[start : start + 8], TARGETS[start : start + 8]
        optimizer.apply(gradient([weight.value for weight in trains], *batch), trains)


def distance(model, wanted):
    """The largest between any two weights."""
    pairs = zip(values(model.weights), values(wanted.weights), strict=True)
    return max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)


#: The others run with `-m long`: JAX compiles for seconds.
SHORT = (("SGD", within), ("AdamW", between))
CASES = [
    pytest.param(name, way, marks=() if (name, way) in SHORT else pytest.mark.long)
    for name in OPTIMIZERS
    for way in (within, between)
    if (name, way) != ("EMA", between)  # Keras on JAX: "Attempt to donate the same buffer twice"
]


@on_jax
@pytest.mark.parametrize(("name", "way"), [case for case in CASES if case.values[0] != "EMA"])
def test_training_goes_on_as_by_an_optimizer_that_is_told_what_to_train(name, way):
    K = zoo.keras_module("keras3")
    model, wanted = network(K, name), network(K, name)
    way(model)
    by_hand(wanted)
    assert distance(model, wanted) < 1e-4


@on_jax
def test_the_law_sees_an_optimizer_that_has_forgotten_what_it_knew(monkeypatch):
    monkeypatch.setattr(retraining, "_carry", lambda *_: None)
    K = zoo.keras_module("keras3")
    model, wanted = network(K, "SGD"), network(K, "SGD")
    within(model)
    by_hand(wanted)
    assert distance(model, wanted) > 1e-3


@pytest.mark.parametrize(("name", "way"), CASES)
def test_what_is_frozen_stays_and_the_rest_moves(name, way):
    model = network(zoo.keras_module("keras3"), name)
    seen = []
    freeze = bnfix.callbacks.freeze

    def noting(model, **options):
        freeze(model, **options)
        seen[:] = [of_norms(model), values(model.trainable_variables)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bnfix.callbacks, "freeze", noting)
        patch.setattr(bnfix, "freeze", noting)
        way(model)
    for before, after in zip(seen[0], of_norms(model), strict=True):
        np.testing.assert_array_equal(before, after)
    for before, after in zip(seen[1], values(model.trainable_variables), strict=True):
        assert not np.array_equal(before, after)


@on_jax
def test_averaged_weights_are_those_of_what_is_still_trained():
    model = network(zoo.keras_module("keras3"), "EMA")
    within(model)
    slots = [one for one in model.optimizer.variables if one.path.endswith("average")]
    for weight, average in zip(model.trainable_variables, slots, strict=True):
        np.testing.assert_array_equal(values([weight]), values([average]))


@on_jax
@pytest.mark.parametrize("way", [within, between])
def test_an_optimizer_that_cannot_be_made_anew_is_refused_before_anything_changes(way):
    K = zoo.keras_module("keras3")

    class Own(K.optimizers.SGD):
        def __init__(self, ours):
            super().__init__(0.01, momentum=0.9)

    model = network(K)
    model.compile(Own(1), "mse")
    with pytest.raises(bnfix.UnsupportedModelError, match=r"Own cannot be made anew .*\.compile"):
        way(model)
    assert all(layer.trainable for layer in zoo.batch_norms(model))
    assert isinstance(model.optimizer, Own)
    fit(model)


@on_jax
def test_a_fit_that_fails_after_the_freeze_leaves_each_weight_its_own():
    """Keras writes back by position what the steps before had left; fails loudly if it changes."""
    model = network(zoo.keras_module("keras3"))
    kept = []

    class Failing(FreezeBN):
        def on_epoch_begin(self, epoch, logs=None):
            super().on_epoch_begin(epoch)
            if epoch == self.at_epoch:
                assert self.model._jax_state, "Keras holds the state of a fit elsewhere"
                kept[:] = values(self.model.weights)
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(model, Failing(1), epochs=2)
    for before, after in zip(kept, values(model.weights), strict=True):
        np.testing.assert_array_equal(before, after)


@on_jax
def test_a_step_that_fails_right_after_the_freeze_leaves_each_weight_its_own(monkeypatch):
    model = network(zoo.keras_module("keras3"))
    kept = []

    class Failing(FreezeBN):
        def on_epoch_begin(self, epoch, logs=None):
            super().on_epoch_begin(epoch)
            if epoch == self.at_epoch:
                kept[:] = values(self.model.weights)

                def fail(state, data):
                    raise ZeroDivisionError

                self.model.train_function = fail

    with pytest.raises(ZeroDivisionError):
        fit(model, Failing(1), epochs=2)
    for before, after in zip(kept, values(model.weights), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.skipif(zoo.BACKEND != "torch", reason="is for PyTorch: set KERAS_BACKEND=torch")
@pytest.mark.parametrize("flag", [False, True])
def test_on_pytorch_fit_goes_by_the_flags_of_now_and_no_fault_is_told(flag):
    model = network(zoo.keras_module("keras3"))
    norms = zoo.batch_norms(model)
    norms[0].trainable = not flag
    model.compile("sgd", "mse")
    model.fit(ROWS, TARGETS, verbose=0)
    norms[0].trainable = flag
    before = np.array(norms[0].moving_mean.numpy())
    assert not any(s.cause == "stale_compile" for s in bnfix.diagnose(model).symptoms)
    if not flag:  # an optimizer that knows nothing of thawed weights is refused by Keras itself
        model.fit(ROWS, TARGETS, verbose=0)
        np.testing.assert_array_equal(norms[0].moving_mean.numpy(), before)
