"""Whatever stops a repair, and wherever, the model is as before to the last bit."""

from itertools import cycle

import interrupting
import numpy as np
import pytest
import zoo
from interrupting import Lines, lack_memory, press_ctrl_c

import bnfix
from bnfix.restoring import NOTHING_CHANGED

NUMBER = [2, *(pytest.param(number, marks=pytest.mark.long) for number in (4, 200))]


@pytest.fixture(autouse=True)
def soon(request):
    """Two hundred repairs would take hours to compile, so these run step by step."""
    number = getattr(request.node, "callspec", None)
    two_hundred = number is not None and number.params.get("number") == 200
    if not two_hundred or zoo.BACKEND != "tensorflow":
        yield
        return
    tf = zoo.tensorflow()
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def inner_class(K):
    """A layer with a BatchNormalization that follows the batch, and that may be told to fail."""

    class Inner(K.layers.Layer):
        left = None  # calls until it fails; None for never

        def __init__(self, **options):
            super().__init__(**options)
            self.hidden = K.layers.BatchNormalization()

        def build(self, shape):
            self.hidden.build(shape)
            # Beside the layers in it, so that its code stays closed and has to be frozen.
            self.own = self.add_weight(name="own", shape=(1,), initializer="ones")
            self.built = True

        def call(self, x):
            if Inner.left is not None:
                Inner.left -= 1
                if Inner.left < 0:
                    raise RuntimeError("the layer fails")
            return self.hidden(x, training=True) * self.own

    return Inner


def faulty(K):
    """A model that is repaired in place in every way there is: its class, itself and its data."""
    L = K.layers
    K.utils.set_random_seed(0)
    Inner = inner_class(K)
    inputs = K.Input((6,), batch_size=8)  # one size, so that a repair has little to trace
    x = L.BatchNormalization(name="exchanged")(L.Dense(8, name="first")(inputs))
    x = L.Dropout(0.3)(L.ReLU()(x))
    x = L.BatchNormalization(name="off")(L.Dense(5, trainable=False)(x))
    model = K.Model(inputs, L.Dense(3)(Inner(name="custom")(x)))
    model.compile(K.optimizers.Adam(), "mse", metrics=["mae"])
    data = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    targets = np.random.default_rng(1).normal(size=(64, 3)).astype("float32")
    model.fit(data, targets, batch_size=8, verbose=0)
    model.predict(data, batch_size=8, verbose=0)
    for layer in zoo.batch_norms(model):
        layer.gamma.assign(np.linspace(0.5, 1.5, layer.gamma.shape[0]))
    bnfix.recalibrate(model, data, batch_size=8, guard=False, verbose=0)
    norm = model.get_layer("exchanged")
    mean = norm.moving_mean.numpy()
    norm.moving_mean.assign(np.linspace(3, 4, 8))
    norm.beta.assign(mean)
    model.get_layer("off").moving_variance.assign(np.full(5, np.nan))
    return Inner, model, data


def layers(model):
    found = [model]
    for layer in found:
        found += layer._flatten_layers(include_self=False, recursive=False)
    return found


def state(model):
    """Everything that must be as before."""
    variables = [*model.variables, *_variables(model.optimizer)]
    functions = ("train_function", "test_function", "predict_function")
    return {
        "values": [np.asarray(variable.numpy()).tobytes() for variable in variables],
        "flags": [layer.trainable for layer in layers(model)],
        "trainable": [id(weight) for weight in model.trainable_weights],
        "functions": [id(getattr(model, name)) for name in functions],
        "optimizer": id(model.optimizer),
        "compiled": repr(model.get_compile_config()),
        "calls": [vars(layer).get("call") for layer in layers(model)],
        "names": [layer.name for layer in layers(model)],
    }


def _variables(optimizer):
    held = optimizer.variables
    return held() if callable(held) else held


def repaired(model, data, **options):
    return bnfix.repair(
        model,
        data,
        copy=False,
        batch_size=8,
        fold=True,
        verbose=0,
        return_report=True,
        **options,
    )


def test_the_model_is_repaired_in_place_in_every_way_if_nothing_stops_that(K):
    _, model, data = faulty(K)
    before = state(model)
    _, report = repaired(model, data)
    told = "\n".join(report.steps)
    assert all(word in told for word in ("exchanged", "froze", "recalibrated", "folded"))
    changed = {name for name, value in state(model).items() if value != before[name]}
    assert changed >= {"values", "flags", "functions"}


@pytest.mark.parametrize("number", NUMBER)
def test_no_interruption_at_any_line_leaves_a_trace(K, number):
    _, trial, data = faulty(K)
    with Lines() as lines:
        repaired(trial, data)
    _, model, data = faulty(K)
    before, stopped = state(model), 0
    positions = interrupting.moments(lines.seen, 2 * number, seed=0)
    for position, act in zip(positions, cycle([press_ctrl_c, lack_memory]), strict=False):
        where = "{}:{}".format(*lines.seen[position - 1])
        try:
            with Lines(position, act):
                repaired(model, data)
        except (KeyboardInterrupt, MemoryError, bnfix.BnfixError):
            stopped += 1
            assert state(model) == before, f"{act.__name__} at {where}"
        else:  # over before that line, or it went on without what there was no memory for
            _, model, data = faulty(K)
            before = state(model)
        if stopped == number:
            break
    assert stopped == number


@pytest.mark.parametrize("number", NUMBER)
def test_no_failure_of_a_layer_leaves_a_trace(K, number):
    Inner, model, data = faulty(K)
    before = state(model)
    try:
        for calls in np.random.default_rng(0).integers(0, 40, number // 2):
            Inner.left = int(calls)
            with pytest.raises(bnfix.BnfixError, match="the layer fails") as refusal:
                repaired(model, data)
            assert str(refusal.value).endswith(NOTHING_CHANGED)
            assert state(model) == before, f"after {calls} calls"
    finally:
        Inner.left = None


@pytest.mark.every(2)
@pytest.mark.parametrize("options", [{"min_count": 1000}, {}])
def test_a_refusal_in_the_last_step_undoes_those_before(K, options, monkeypatch):
    _, model, data = faulty(K)
    before = state(model)

    def withheld(*args, **kwargs):
        raise bnfix.VerificationError("the proof fails.")

    if not options:
        monkeypatch.setattr("bnfix.operations.proven.verify", withheld)
    error = bnfix.StatisticsError if options else bnfix.VerificationError
    with pytest.raises(error, match=NOTHING_CHANGED):
        repaired(model, data, **options)
    assert state(model) == before
