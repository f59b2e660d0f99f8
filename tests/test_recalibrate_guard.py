"""recalibrate cannot make a model worse: with labels it compares, without it does not guess."""

import numpy as np
import pytest
import references as ref
import zoo
from references import numbers
from sklearn.datasets import load_digits
from test_recalibrate import refused
from zoo.courses import digits_resnet

import bnfix
from bnfix.recalibration import procedure
from bnfix.recalibration import verdict as guarding


@pytest.fixture(scope="module")
def digits():
    pixels, labels = load_digits(return_X_y=True)
    return pixels.reshape(-1, 8, 8, 1).astype("float32") / 16, labels.astype("int32")


def compiled(model):
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture(scope="module")
def trained(digits):
    """One epoch of `fit`, by Keras: the statistics have not converged."""
    made = {}

    def get(K):
        if K.__name__ not in made:
            K.utils.set_random_seed(0)
            model = compiled(digits_resnet(K))
            model.fit(*digits, batch_size=64, epochs=2, verbose=0)
            made[K.__name__] = model, ref.weights_of(model)
        model, values = made[K.__name__]
        for weight, value in zip(model.weights, values, strict=True):
            weight.assign(value)
        return model

    return get


@pytest.fixture(scope="module")
def self_consistent(digits):
    """Trained by a loop that never passes `training=True`: it has learned with 0 and 1."""
    made = {}

    def get(K):
        if K.__name__ not in made:
            K.utils.set_random_seed(0)
            model = compiled(digits_resnet(K))
            made[K.__name__] = model, without_training_mode(K, model, *digits)
        model, values = made[K.__name__]
        for weight, value in zip(model.weights, values, strict=True):
            weight.assign(value)
        return model

    return get


def trained_once(which):
    """In one Keras for all laws that share a model, which takes longer to train than they do."""
    cases = [
        pytest.param(dialect, marks=[] if dialect == zoo.DIALECTS[which] else [pytest.mark.long])
        for dialect in zoo.DIALECTS
    ]
    return pytest.mark.parametrize("dialect", cases)


with_unconverged = trained_once(0)
with_self_consistent = trained_once(-1)


def without_training_mode(K, model, x, y):
    tf = zoo.tensorflow()
    optimizer, loss_of = K.optimizers.Adam(3e-3), K.losses.SparseCategoricalCrossentropy()

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=False))
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    for _ in range(3):
        for start in range(0, len(x) - 63, 64):
            step(x[start : start + 64], y[start : start + 64])
    return ref.weights_of(model)


def accuracy(model, x, y):
    return float(np.mean(np.argmax(numbers(model(x, training=False))[0], axis=-1) == y))


@with_self_consistent
def test_a_model_that_agrees_with_itself_survives_and_it_is_said(K, digits, self_consistent):
    model = self_consistent(K)
    before, right = ref.weights_of(model), accuracy(model, *digits)
    with pytest.warns(bnfix.BnfixWarning, match="put the old statistics back"):
        _, report = bnfix.recalibrate(model, digits, return_report=True)
    ref.assert_same_weights(model, before)
    assert right > 0.85
    assert not report.kept
    assert report.verdict.worse
    assert "NOT kept" in str(report)


@with_self_consistent
def test_without_labels_never_updated_statistics_are_not_replaced(K, digits, self_consistent):
    error = refused(
        self_consistent(K), digits[0], bnfix.StatisticsError, "Pass labels.*guard=False"
    )
    assert error.path


@with_self_consistent
def test_without_guard_the_new_statistics_stay(K, digits, self_consistent):
    model = self_consistent(K)
    right = accuracy(model, *digits)
    bnfix.recalibrate(model, digits, guard=False)
    assert accuracy(model, *digits) < right - 0.02


@with_self_consistent
def test_guard_raise_raises_and_changes_nothing(K, digits, self_consistent):
    refused(
        self_consistent(K), digits, bnfix.StatisticsError, "worse: loss.*guard=False", guard="raise"
    )


@with_unconverged
def test_better_statistics_are_kept_and_only_they_change(K, digits, trained):
    model = trained(K)
    model.evaluate(*digits, verbose=0)
    metrics = [np.array(v.numpy()) for m in model.metrics for v in m.variables]
    state = [np.array(v.numpy()) for v in _variables(model.optimizer)]
    norms = {id(v) for n in zoo.batch_norms(model) for v in (n.moving_mean, n.moving_variance)}
    others = [w for w in model.weights if id(w) not in norms]
    before = [np.array(w.numpy()) for w in others]
    right = accuracy(model, *digits)

    _, report = bnfix.recalibrate(model, digits, return_report=True)

    assert report.kept
    assert report.verdict.after < report.verdict.before
    assert accuracy(model, *digits) > max(right, 0.95)
    for now, then in zip(others, before, strict=True):
        np.testing.assert_array_equal(now.numpy(), then)
    for now, then in zip(_variables(model.optimizer), state, strict=True):
        np.testing.assert_array_equal(now.numpy(), then)
    for now, then in zip([v for m in model.metrics for v in m.variables], metrics, strict=True):
        np.testing.assert_array_equal(now.numpy(), then)


def _variables(optimizer):
    found = optimizer.variables
    return found() if callable(found) else found


@with_unconverged
def test_the_loss_compared_is_the_one_that_evaluate_gives(K, digits, trained):
    model = trained(K)
    x, y = digits[0][:128], digits[1][:128]
    wanted = model.evaluate(x, y, verbose=0)[0]
    _, report = bnfix.recalibrate(model, (x, y), return_report=True)
    assert report.verdict.before == pytest.approx(wanted, rel=1e-4)
    assert report.verdict.after == pytest.approx(model.evaluate(x, y, verbose=0)[0], rel=1e-4)


@with_self_consistent
def test_a_metric_of_ones_own_decides_without_compiling(K, digits, self_consistent):
    def errors(labels, probabilities):
        return np.argmax(probabilities, axis=-1) != labels

    source = self_consistent(K)
    model = digits_resnet(K)
    model.set_weights(source.get_weights())
    with pytest.warns(bnfix.BnfixWarning, match="worse"):
        _, report = bnfix.recalibrate(model, digits, metric=errors, return_report=True)
    assert report.verdict.before == pytest.approx(1 - accuracy(model, *digits), abs=1e-6)
    refused(model, digits[0], bnfix.DataError, "no labels", metric=errors)


@pytest.mark.every(2)
@pytest.mark.parametrize("engine", ["exact", "lockstep"])
def test_models_without_a_graph_are_guarded_too(dialect, engine, digits):
    """Opened or, with a weight of their own beside the layers, not."""
    K = zoo.keras_module(dialect)

    class Network(K.Model):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = K.layers.Conv2D(8, 3), K.layers.BatchNormalization()
            self.pool, self.head = K.layers.Flatten(), K.layers.Dense(10, activation="softmax")
            if engine == "lockstep":
                self.own = self.add_weight(name="own", shape=(1,), initializer="ones")

        def call(self, inputs, training=None):
            x = K.activations.relu(self.norm(self.conv(inputs), training=training))
            x = self.head(self.pool(x))
            return x * self.own if engine == "lockstep" else x

    K.utils.set_random_seed(0)
    model = compiled(Network())
    model.fit(*digits, batch_size=64, epochs=3, verbose=0)
    values = without_training_mode(K, model, *digits)
    model.norm.moving_mean.assign(model.norm.moving_mean + 3.0)
    broken = accuracy(model, *digits)
    _, report = bnfix.recalibrate(model, digits, return_report=True)
    assert (report.engine, report.kept) == (engine, True)
    assert accuracy(model, *digits) > broken
    assert len(values) == len(model.weights)


def always_content(verdict):
    return False


@with_self_consistent
def test_the_law_sees_a_guard_that_always_agrees(K, digits, self_consistent, monkeypatch):
    monkeypatch.setattr(guarding.Verdict, "worse", property(always_content))
    model = self_consistent(K)
    before = ref.weights_of(model)
    bnfix.recalibrate(model, digits)
    with pytest.raises(AssertionError):
        ref.assert_same_weights(model, before)


# --- of few rows ----------------------------------------------------------------------------------


def few(K, rows):
    """A model that is worse with new statistics, and as many rows with labels."""
    model = K.Sequential([K.Input((5,)), K.layers.BatchNormalization(name="bn")])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(3, 2, size=(rows, 5)).astype("float32")
    return model, (x, x)


@pytest.mark.parametrize(
    ("options", "sample", "groups"),
    [
        ({}, 480, 64), ({"memory_limit": 16 * 480 + 15}, 0, 24), ({"memory_limit": 16}, 0, 8),
        ({"method": "streaming"}, 480, 24), ({"method": "streaming"}, None, 64),
    ],
)  # fmt: skip
def test_losses_are_compared_on_what_memory_is_left_for(monkeypatch, options, sample, groups):
    """A batch takes 160 bytes; the first one is kept in any case."""
    model, data = few(zoo.keras_module("keras3"), 64)
    if sample is not None:
        monkeypatch.setattr(procedure, "_SAMPLE", sample)
    with pytest.warns(bnfix.BnfixWarning, match="put the old statistics back"):
        _, report = bnfix.recalibrate(
            model, data, batch_size=8, verbose=0, return_report=True, **options
        )
    assert report.verdict.groups == groups
    assert (report.memory is None) == ("method" in options), "known of a graph, run as such"


def test_the_warning_points_at_the_call_and_32_values_are_enough(K):
    model, data = few(K, 32)
    with pytest.warns(bnfix.BnfixWarning, match="put the old statistics back") as caught:
        assert bnfix.recalibrate(model, data) is model
    ours = [warning for warning in caught if warning.category is bnfix.BnfixWarning]
    assert [warning.filename for warning in ours] == [__file__]
    with pytest.raises(bnfix.StatisticsError, match=r"make sequential.* worse"):
        bnfix.recalibrate(model, data, guard="raise")
    model, data = few(K, 31)
    with pytest.raises(bnfix.StatisticsError, match="31 values per channel; min_count is 32"):
        bnfix.recalibrate(model, data)
